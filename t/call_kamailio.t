#!/usr/bin/perl

# Tests for messages and calls of two clients through Kamailio, whose idle
# connections last an hour, or one second.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ sleep /;

use Ims;
use ImsClient;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('kamailio')->plan(84);

my $n;

ims_keys($t);
ims_pool($t, size => 40);

my $kamailio = ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3));
$t->run();

###############################################################################

# with links that stay, then with links that the core closes all the time

round('links stay');
ims_kill($kamailio, 'TERM');

$kamailio = ims_core($t, defines => ['TCP_LIFETIME=2']);
round('links break', pause => 3);

my $counters = ims_status()->{counters};
cmp_ok($counters->{core_link_broken}, '>', 0, 'links were broken');
is($counters->{core_timeout}, 0, 'nobody waited in vain');
is($counters->{response_lost}, 0, 'no response was lost');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# registers, messages, a call with re-INVITE either way and its end, CANCEL, a
# refusal; with a pause before each

sub round {
    my ($name, %o) = @_;

    my $pause = sub { sleep $o{pause} if $o{pause} };
    my $a = user('a');
    my $b = user('b');

    $pause->();

    for (['a to b', $a, $b], ['b to a', $b, $a]) {
        my ($way, $from, $to) = @$_;
        my $label = "$name, $way";

        $from->send($from->{ua}->request('MESSAGE', to => $to->{id}{impu},
            body => "hello $label", call_id => id(), extra => [
                'P-Asserted-Identity: <sip:evil@ims.example>' ]));
        my $m = next_of($to);
        is($m->{body}, "hello $label", "$label: message");
        is(sip_header($m, 'P-Asserted-Identity'), "<$from->{id}{impu}>",
            "$label: from whom");
        is(scalar(() = $m->{text} =~ /hello/g), 1, "$label: once");
        $to->send(sip_reply($m, 200, 'OK'));
        is(next_of($from)->{status}, 200, "$label: message answered");

        call($label, $from, $to, $pause);
    }

    # nobody there

    $a->send($a->{ua}->request('MESSAGE', call_id => id(),
        to => 'sip:web-000040@ims.example'));
    is(next_of($a)->{status}, 480, "$name: nobody there");

    # one is gone without a word: the edge's 430 is the core's 480

    $b->{ws}->drop();
    sleep 0.3;
    $a->send($a->{ua}->request('MESSAGE', call_id => id(),
        to => $b->{id}{impu}));
    is(next_of($a)->{reason}, 'Not Reachable', "$name: one that is gone");
}


sub call {
    my ($label, $from, $to, $pause) = @_;

    # cancelled while it rings

    my $cid = id();
    my $invite = $from->{ua}->request('INVITE', to => $to->{id}{impu},
        from_tag => 'caller', call_id => $cid, type => 'application/sdp',
        body => "v=0\r\n", extra => [contact($from)]);
    $from->send($invite);
    is(next_of($from)->{status}, 100, "$label: 100");
    my $in = next_of($to);
    is($in->{method}, 'INVITE', "$label: INVITE");
    $to->send(answer($to, $in, 180, 'Ringing'));
    is(next_of($from)->{status}, 180, "$label: ringing");

    my $cancel = $invite =~ s/^INVITE/CANCEL/r;
    $cancel =~ s/^(CSeq: \d+ )INVITE/$1CANCEL/m;
    $cancel =~ s/^(?:Contact|Content-Type): .*\r\n//mg;
    $cancel =~ s/^Content-Length: .*?\z/Content-Length: 0\r\n\r\n/ms;
    $from->send($cancel);
    is(next_of($from)->{status}, 200, "$label: CANCEL answered");
    my $c = next_of($to);
    is($c->{method}, 'CANCEL', "$label: CANCEL");
    $to->send(sip_reply($c, 200, 'OK'));
    $to->send(answer($to, $in, 487, 'Request Terminated'));
    is(next_of($to)->{method}, 'ACK', "$label: ACK of the 487");
    is(next_of($from)->{status}, 487, "$label: 487");

    # answered

    $cid = id();
    $from->send($from->{ua}->request('INVITE', to => $to->{id}{impu},
        from_tag => 'caller', call_id => $cid, type => 'application/sdp',
        body => "v=0\r\n", extra => [contact($from)]));
    next_of($from);
    $in = next_of($to);
    $to->send(answer($to, $in, 180, 'Ringing'));
    next_of($from);
    $pause->();
    $to->send(answer($to, $in, 200, 'OK'));
    my $ok = next_of($from);
    is($ok->{status}, 200, "$label: call answered");

    my %uac = (call_id => $cid, to => $to->{id}{impu}, from_tag => 'caller',
        to_tag => 'called', ruri => uri($ok), routes => [reverse routes($ok)]);
    my %uas = (call_id => $cid, to => $from->{id}{impu}, from_tag => 'called',
        to_tag => 'caller', ruri => uri($in), routes => [routes($in)]);

    $from->send(inside($from, 'ACK', %uac, cseq => $from->{ua}{cseq}));
    is(next_of($to)->{method}, 'ACK', "$label: ACK");

    for ([$from, $to, \%uac, 'caller'], [$to, $from, \%uas, 'called']) {
        my ($x, $y, $d, $who) = @$_;
        $pause->();
        $x->send(inside($x, 'INVITE', %$d, extra => [contact($x)]));
        next_of($x);
        my $m = next_of($y);
        $y->send(sip_reply($m, 200, 'OK', extra => [contact($y)]));
        my $r = next_of($x);
        $x->send(inside($x, 'ACK', %$d, cseq => $x->{ua}{cseq}));
        is("$m->{method} $r->{status} " . next_of($y)->{method},
            'INVITE 200 ACK', "$label: re-INVITE of the $who");
    }

    $pause->();
    $to->send(inside($to, 'BYE', %uas));
    my $bye = next_of($from);
    is($bye->{method}, 'BYE', "$label: BYE");
    $from->send(sip_reply($bye, 200, 'OK'));
    is(next_of($to)->{status}, 200, "$label: BYE answered");

    $from->send(inside($from, 'INFO', %uac, to_tag => 'made-up'));
    is(next_of($from)->{status}, 403, "$label: made-up To tag");
}


sub user {
    my ($name) = @_;

    my $c = ImsClient->new(user => $name . ++$n);
    $c->send($c->{ua}->register());
    is(next_of($c)->{status}, 200, "$name registered");

    return $c;
}


sub next_of {
    my ($c) = @_;

    return $c->answer(8) // { method => 'nothing', status => 'nothing',
                              text => '', body => '', lines => [] };
}


sub id { return 'kam-' . int(rand 1e9) . '@x' }


sub contact { return 'Contact: <' . $_[0]{ua}->contact() . ';ob>' }


sub uri { return sip_header($_[0], 'Contact') =~ /<([^>]+)>/ ? $1 : '' }


sub routes {
    return split /\s*,\s*/, join ',', sip_headers($_[0], 'Record-Route');
}


sub answer {
    my ($c, $m, $status, $reason) = @_;

    return sip_reply($m, $status, $reason, to_tag => 'called', extra => [
        contact($c), map { "Record-Route: $_" } routes($m) ]);
}


sub inside {
    my ($c, $method, %o) = @_;

    return $c->{ua}->request($method, %o, extra => [
        (map { "Route: $_" } @{$o{routes}}), @{$o{extra} // []} ]);
}

###############################################################################
