#!/usr/bin/perl

# Tests for reloads of nginx with live flows whose core speaks UDP: traffic in
# both directions, from workers of all generations, over one socket.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant { FLOWS => 12, RELOADS => 5 };

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(15);

ims_keys($t);
ims_pool($t, size => 40);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, workers => 3));
my $core = ImsCore->new(port(8060), udp => 1, once => 1);
$t->run();

###############################################################################

my $edge = $core->datagrams(port(8070));
my $master = $t->read_file('nginx.pid') + 0;
my (@flows, %dialog, %sent, %branches, %clients, %kept);
my ($n, $repeated) = (0, 0);

add() for 1 .. FLOWS - RELOADS;

for my $r (1 .. RELOADS) {
    traffic("$r-before") if $r == 1;
    kill 'HUP', $master;
    traffic("$r-during");
    ims_wait_log($t, qr/gracefully shutting down/, count => 3 * $r);
    add();
    traffic("$r-after");
}

my $all = keys %sent;
cmp_ok($all, '>', 400, "$all messages sent");
is(scalar(grep { !$branches{$_} && !$clients{$_} } keys %sent), 0,
    'none is lost');
is(scalar(grep { keys %{$branches{$_}} > 1 } keys %branches), 0,
    'none has two transactions');
is(scalar(grep { $_ > 1 } values %clients), 0, 'none is doubled to a client');

is(scalar(grep { $_->{ws}{close} || $_->{ws}{eof} } @flows), 0,
    'no flow is closed');

# the calls that began before end after

my ($ended, $hung_up) = (0, 0);

for my $c (@flows) {
    $c->send($dialog{$c}[0]->from_client('BYE'));
    my ($m, $link) = core_gets('BYE');
    $core->reply($link, $m, 200, 'OK');
    $ended++ if ($c->answer() // {})->{status};

    $core->send($edge, $dialog{$c}[1]->from_core('BYE'));
    $m = $c->answer() or last;
    $c->send(sip_reply($m, 200, 'OK'));
    ($m) = core_gets(200);
    $hung_up++ if $m && sip_header($m, 'CSeq') =~ /BYE/;
}

is($ended, FLOWS, 'calls ended by the clients');
is($hung_up, FLOWS, 'and by the core');

# a final answer that waits for its ACK holds its worker until that came

my $last = $flows[0];
$core->send($edge, core_text($last, 'INVITE', branch => 'z9hG4bKhold',
    call_id => 'hold', type => 'application/sdp', body => "v=0\r\n"));
my $in = $last->answer();
$last->send(sip_reply($in, 486, 'Busy Here', to_tag => 'me'));
is((core_gets(486))[0]{status}, 486, 'a refusal');
my $exited = ims_count_log($t, qr/worker process \d+ exited/);
$_->{ws}->close() for @flows;
is((core_gets(486))[0]{status}, 486, 'sent again by a worker without flows');
$core->send($edge, core_text($last, 'ACK', branch => 'z9hG4bKhold',
    call_id => 'hold', to_tag => 'me'));

ok(ims_wait(15, sub {
    dereg();
    ims_count_log($t, qr/worker process \d+ exited/) >= 3 * RELOADS;
}), 'the old workers leave');

my $counters = ims_status()->{counters};
is($counters->{$_}, 0, "none of $_")
    for qw/ response_lost core_timeout udp_unsent core_bad /;
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]|exited on signal/), 0,
    'no alerts');

###############################################################################

sub add {
    my $c = ImsClient->new(user => 'user' . (1 + @flows));

    ImsCall::registered($c, $core);
    $dialog{$c} = [ ImsCall->calls($c, $core),
                    ImsCall->called($c, $core, $edge) ];
    push @flows, $c;
}


sub core_text {
    my ($c, $method, %o) = @_;

    my $branch = $o{branch} // 'z9hG4bKdown' . ++$n;

    return ImsCall::core_request($c, $method, from_tag => 'far', %o, via => [
        'SIP/2.0/UDP 127.0.0.1:' . port(8060) . ";branch=$branch" ]);
}


# the next message of a method or a status at the core; others are answered

sub core_gets {
    my ($what) = @_;

    for (1 .. 50) {
        my ($m, $link) = $core->request(6) or return ();
        return ($m, $link) if ($m->{status} // $m->{method}) eq $what;
        again($m, $link);
    }

    return ();
}


# what was answered before is answered again

sub again {
    my ($m, $link) = @_;

    return if $m->{status} || $m->{method} eq 'ACK';

    $core->reply($link, $m, 200, 'OK');
}


sub dereg {
    while (my ($m, $link) = $core->request(0.1)) {
        again($m, $link);
    }
}


# a message and a request of a dialog on each flow, in both directions, all
# under way at once

sub traffic {
    my ($label) = @_;

    my (%wait, %answers);

    for my $c (@flows) {
        my $id = "$label-$c->{user}";

        $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
            call_id => 'm-' . ++$n, body => marked("$id-up")));
        $c->send($dialog{$c}[0]->from_client('INFO',
            body => marked("$id-up-dialog")));

        for my $down (core_text($c, 'MESSAGE', body => marked("$id-down")),
            $dialog{$c}[1]->from_core('INFO', body => marked("$id-dialog"),
                branch => 'z9hG4bKinfo' . ++$n))
        {
            my ($branch) = $down =~ /branch=([^;\s]+)/;
            $wait{$branch} = $down;
            $core->send($edge, $down);
        }

        $answers{$c} = 2;
        core_reads(\%wait, 0);
    }

    for my $c (@flows) {
        my $down = 2;

        while ($down || $answers{$c}) {
            core_reads(\%wait, 0.01);
            my $m = $c->answer(3) or last;

            if ($m->{status}) {
                $answers{$c}--;
                next;
            }

            $down--;
            $clients{$m->{body}}++;
            $c->send(sip_reply($m, 200, 'OK'));
        }
    }

    # what had no answer is sent again, as a core does

    for my $try (1 .. 6) {
        core_reads(\%wait, 0.2);
        last unless %wait;
        $core->send($edge, $_) for values %wait;
        $repeated += keys %wait;
    }

    diag "$label: unanswered " . join ' ', keys %wait if %wait;
}


sub core_reads {
    my ($wait, $seconds) = @_;

    while (my ($m, $link) = $core->request($seconds)) {

        if ($m->{status}) {
            my ($branch) = (sip_headers($m, 'Via'))[0] =~ /branch=([^;\s]+)/;
            delete $wait->{$branch};
            next;
        }

        my ($branch) = (sip_headers($m, 'Via'))[0] =~ /branch=([^;\s]+)/;
        $branches{$m->{body}}{$branch}++ if length $m->{body};
        again($m, $link);
    }
}


sub marked {
    my ($id) = @_;

    $sent{$id}++;

    return $id;
}

###############################################################################
