#!/usr/bin/perl

# Tests for the messages of RFC 4475, each sent by a registered client, by the
# core as it is, and by the core with the client's flow in its Route.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

# What becomes of it: the status of the edge's answer; "passed", as it is but
# for what a proxy changes; "dropped" without an answer; "closed": the framing
# of the stream is lost; "waits": for more of it. From the client several Via
# are refused, and a REGISTER that is not for an identity of its own. What a
# client sends in answer to nothing is dropped. A Path names no dialog: wsinv
# has a To tag.

my %expected = (

    # valid (3.1.1)

    wsinv      => [ 400, 404, 403 ],
    intmeth    => [ 'passed', 404, 'passed' ],
    esc01      => [ 'passed', 404, 'passed' ],
    escnull    => [ 400, 404, 'passed' ],
    esc02      => [ 'passed', 404, 'passed' ],
    lwsdisp    => [ 'passed', 404, 'passed' ],
    longreq    => [ 400, 404, 'passed' ],
    dblreq     => [ 400, 'closed', 'passed' ],
    semiuri    => [ 'passed', 404, 'passed' ],
    transports => [ 400, 404, 'passed' ],
    mpart01    => [ 'passed', 404, 'passed' ],
    unreason   => [ 'dropped', 'dropped', 'dropped' ],
    noreason   => [ 'dropped', 'dropped', 'dropped' ],

    # invalid (3.1.2); baddate and regbadct where a proxy need not look

    badinv01   => [ 400, 400, 400 ],
    clerr      => [ 400, 'waits', 'waits' ],
    ncl        => [ 400, 'closed', 'closed' ],
    scalar02   => [ 400, 400, 400 ],
    scalarlg   => [ 'dropped', 'dropped', 'dropped' ],
    quotbal    => [ 400, 400, 400 ],
    ltgtruri   => [ 400, 400, 400 ],
    lwsruri    => [ 400, 400, 400 ],
    lwsstart   => [ 400, 400, 400 ],
    trws       => [ 400, 400, 400 ],
    escruri    => [ 400, 400, 400 ],
    baddate    => [ 'passed', 404, 'passed' ],
    regbadct   => [ 400, 404, 'passed' ],
    badaspec   => [ 400, 400, 400 ],
    baddn      => [ 400, 400, 400 ],
    badvers    => [ 505, 505, 505 ],
    mismatch01 => [ 400, 400, 400 ],
    mismatch02 => [ 400, 400, 400 ],
    bigcode    => [ 'dropped', 'dropped', 'dropped' ],

    # transactions, and application layer (3.2, 3.3)

    badbranch  => [ 400, 404, 'passed' ],
    insuf      => [ 400, 400, 400 ],
    unkscm     => [ 416, 416, 416 ],
    novelsc    => [ 416, 416, 416 ],
    unksm2     => [ 400, 404, 'passed' ],
    bext01     => [ 420, 404, 420 ],
    invut      => [ 'passed', 404, 'passed' ],
    regaut01   => [ 400, 404, 'passed' ],
    multi01    => [ 400, 400, 400 ],
    mcl01      => [ 400, 'closed', 'closed' ],
    bcast      => [ 'dropped', 'dropped', 'dropped' ],
    zeromf     => [ 483, 404, 483 ],
    cparam01   => [ 403, 404, 'passed' ],
    cparam02   => [ 403, 404, 'passed' ],
    regescrt   => [ 403, 404, 'passed' ],
    sdp01      => [ 'passed', 404, 'passed' ],

    # RFC 2543 (3.4): no branch, and on a stream no length

    inv2543    => [ 400, 'closed', 'closed' ],
);

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->plan(3 * keys(%expected) + 7);

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $c = ImsClient->new(user => 'alice');
ImsCall::registered($c, $core);

my @files = map { m{([^/]+)\.dat$} } glob 'torture/rfc4475/*.dat';
is_deeply([sort @files], [sort keys %expected], 'all messages are there');

my ($worker) = ims_wait_pid();
my $in = $core->connect(port(8070));

for my $name (sort keys %expected) {
    my $text = file("torture/rfc4475/$name.dat");

    is(by_client($text), $expected{$name}[0], "$name of a client");
    is(by_core($text, $name), $expected{$name}[1], "$name of the core");

    # another branch, since some of them have the same

    $text =~ s/\r\n/\r\nRoute: <$c->{path}>\r\n/;
    $text =~ s/(branch\s*=\s*z9hG4bK)(?=[\w.])/$1$name/i;

    is(by_core($text, $name), $expected{$name}[2],
        "$name of the core to the flow");
}

# all of it was of no consequence

is((ims_wait_pid())[0], $worker, 'the same worker');

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
my ($m, $link) = $core->request();
is($m->{method}, 'MESSAGE', 'the flow is there: to the core');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'and back');
$core->send($in, ImsCall::core_request($c, 'MESSAGE'));
$m = $c->answer();
is($m->{method}, 'MESSAGE', 'from the core');
$c->send(sip_reply($m, 200, 'OK'));
is(($core->request())[0]->{status}, 200, 'and back');

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# What is a dropped message, is known from the one sent after it: that is
# answered, and nothing was before.

sub by_client {
    my ($text) = @_;

    $c->send($text, opcode => 2);
    $c->send("\r\n\r\n");

    my $end = time() + 10;
    my $pong = 0;

    while (time() < $end) {
        my $got = $c->{ws}->recv(0.02);
        $pong = 1 if defined $got && $got eq "\r\n";
        my $a = defined $got ? sip_parse($got) : undef;

        # a 100 is the edge's own before it passes an INVITE on
        return finish($a->{status}) if $a && $a->{status} != 100;
        last if $c->{ws}{close};

        my ($m, $l) = $core->request($pong ? 0.1 : 0.02);
        if ($m) {
            $core->send($l, answer_of($m));
            return finish(drain() ? 'passed' : 'passed, but not answered');
        }

        last if $pong;
    }

    return finish('dropped');
}


# a bad one may be the last that the WebSocket is kept for

sub finish {
    my ($seen) = @_;

    if ($c->{ws}->recv(0.01), $c->{ws}{close} || $c->{ws}{eof}
        || $seen eq 'dropped' || $seen eq '403')
    {
        $c->connect();
        ImsCall::registered($c, $core);
    }

    return $seen;
}


# the core's final answer arrives at the client, and its ACK at the core

sub drain {
    my $end = time() + 8;

    while (time() < $end) {
        my $a = sip_parse($c->{ws}->recv(0.5) // '') or next;
        next unless ($a->{status} // 0) == 486;
        return 1 unless $a->{text} =~ /^CSeq\s*:\s*\d+\s+INVITE/mi;

        my ($ack) = $core->request(2);
        return $ack && ($ack->{method} // '') eq 'ACK';
    }

    return 0;
}


sub by_core {
    my ($text, $name) = @_;

    $core->send($in, $text);
    $core->send($in, ImsCall::core_request($c, 'OPTIONS', route => '',
        ruri => 'sip:127.0.0.1:' . port(8070), call_id => "after-$name"));

    my ($seen, %left) = ('dropped', after => 1);
    my $end = time() + 10;

    while (time() < $end && %left) {
        my $got = sip_parse($c->{ws}->recv(0.02) // '');

        if ($got && ($got->{method} // '') eq 'ACK') {
            delete $left{ack};

        } elsif ($got && $got->{method}) {
            $seen = 'passed';
            $left{answer} = 1;
            $left{ack} = 1 if $got->{method} eq 'INVITE';
            $c->send(answer_of($got));
        }

        my ($m) = $core->request(0.02);
        my $status = $m ? $m->{status} // 0 : 0;

        if ($m && $m->{text} =~ /after-$name/) {
            delete $left{after};

        } elsif ($status == 486) {
            delete $left{answer};

        } elsif ($status > 100) {
            $seen = $status;
        }

        last unless grep { $_ == $in } $core->links();

        # clerr: the OPTIONS became a part of its body

        if ($name eq 'clerr' && time() > $end - 9) {
            $core->close($in);
            $seen = 'waits';
            last;
        }
    }

    if (!grep { $_ == $in } $core->links()) {
        $in = $core->connect(port(8070));
        $seen = 'closed' if $seen eq 'dropped';
    }

    return time() < $end ? $seen : "$seen, then nothing";
}


# 486 with every header that an answer repeats, in whatever form it was

sub answer_of {
    my ($m) = @_;

    my ($head) = $m->{text} =~ /^[^\r]*\r\n(.*?\r\n)\r\n/s;
    my @lines = $head =~ /^([^\s:]+\s*:(?:.*?)\r\n)(?![ \t])/gms;
    my @kept = grep {
        /^(?:via|v|from|f|to|t|call-id|i|cseq)\s*:/i } @lines;

    s/\r\n\z/;tag=t486\r\n/ for grep { /^(?:to|t)\s*:/i && !/;\s*tag\s*=/i }
        @kept;

    return join '', "SIP/2.0 486 Not Here\r\n", @kept,
        "Content-Length: 0\r\n\r\n";
}


sub ims_wait_pid {
    my $master = $t->read_file('nginx.pid') + 0;

    return sort split ' ', file("/proc/$master/task/$master/children");
}


sub file {
    my ($name) = @_;

    open my $f, '<:raw', $name or die "$name: $!\n";
    local $/;

    return scalar <$f>;
}

###############################################################################
