#!/usr/bin/perl

# Tests for messages and calls over UDP through Kamailio: of two clients, and
# of a client and SIPp as a phone of the IMS.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::INET;
use POSIX qw/ WNOHANG /;

use Ims;
use ImsCall;
use ImsClient;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('kamailio')->has_daemon('sipp')->plan(72);

ims_keys($t);
ims_pool($t);
ims_core($t, udp => 1);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, workers => 3,
    http => 'ims_core_probe 1s;'));
$t->run();

###############################################################################

my ($n, $phones) = (0, 0);
my $a = user('alice');
my $b = user('bob');

my ($register) = grep { /^REGISTER/ } ims_core_log($t);
like($register, qr{^Via: SIP/2.0/UDP }m, 'REGISTER by UDP');
like(ims_core_bindings($t)->{substr $a->{id}{impu}, 4}[0]{path},
    qr/;transport=udp;/, 'bound to a Path by UDP');

for (['a to b', $a, $b], ['b to a', $b, $a]) {
    my ($way, $from, $to) = @$_;

    # small, by UDP; large, by TCP in both hops

    for my $size (20, 3000) {
        my $body = "$way " . 'x' x $size;
        $from->send($from->{ua}->request('MESSAGE', to => $to->{id}{impu},
            body => $body, call_id => id()));
        my $m = next_of($to);
        is($m->{body}, $body, "$way: message of $size");
        is(sip_header($m, 'P-Asserted-Identity'), "<$from->{id}{impu}>",
            "$way: from whom");
        $to->send(sip_reply($m, 200, 'OK'));
        is(next_of($from)->{status}, 200, "$way: answered");
    }

    call($way, $from, $to, $_) for '', 'x' x 3000;
}

$a->send($a->{ua}->request('MESSAGE', call_id => id(),
    to => 'sip:web-000019@ims.example'));
is(next_of($a)->{status}, 480, 'nobody there');

# the phone is called, and calls

my $port = port(8061, udp => 1);
my ($user) = $a->{id}{impu} =~ /sip:([^@]+)/;
my $contact = 'Contact: <' . $a->{ua}->contact() . ';ob>';

phone_registers($port);
my $phone = sipp('called', '-p', $port);

$a->send($a->{ua}->request('INVITE', to => 'sip:phone@ims.example',
    from_tag => 'alice', call_id => 'to-phone', type => 'application/sdp',
    body => "v=0\r\n", extra => [$contact]));
is(next_of($a)->{status}, 100, 'at once');
is(next_of($a)->{status}, 183, '183 of the phone');
my $ok = next_of($a);
is($ok->{status}, 200, 'answered');

my %dialog = (to => 'sip:phone@ims.example', ruri => uri($ok),
    from_tag => 'alice', call_id => 'to-phone',
    to_tag => (sip_header($ok, 'To') =~ /;tag=([^;]+)/)[0],
    extra => [ map { "Route: $_" } reverse routes($ok) ]);
$a->send($a->{ua}->request('ACK', %dialog, cseq => $a->{ua}{cseq}));
my $m = next_of($a);
is($m->{method}, 'INVITE', 're-INVITE of the phone');
$a->send(sip_reply($m, 200, 'OK', extra => [$contact]));
is(next_of($a)->{method}, 'ACK', 'its ACK');
$a->send($a->{ua}->request('INFO', %dialog));
my %got;
for (1 .. 2) {
    $m = next_of($a);
    $got{$m->{method} // $m->{status}}++;
    $a->send(sip_reply($m, 200, 'OK')) if ($m->{method} // '') eq 'BYE';
}
is_deeply(\%got, { 200 => 1, BYE => 1 }, 'INFO answered; the phone hangs up');
is(ended($phone), 0, 'the phone is content');

# it calls: early media with PRACK, answer, re-INVITE, BYE

$phone = sipp('caller', '-s', $user, '127.0.0.1:' . port(8060));
my $in = next_of($a);
is($in->{method}, 'INVITE', 'INVITE of the phone');
my @rr = map { "Record-Route: $_" } routes($in);
$a->send(sip_reply($in, 183, 'Session Progress', to_tag => 'alice',
    body => "v=0\r\n", extra => [@rr, $contact, 'Require: 100rel', 'RSeq: 1',
        'Content-Type: application/sdp']));
$m = next_of($a);
is($m->{method}, 'PRACK', 'PRACK of the phone');
$a->send(sip_reply($m, 200, 'OK'));
$a->send(sip_reply($in, 200, 'OK', to_tag => 'alice',
    extra => [@rr, $contact]));
is(next_of($a)->{method}, 'ACK', 'ACK');
$m = next_of($a);
is($m->{method}, 'INVITE', 're-INVITE');
$a->send(sip_reply($m, 200, 'OK', extra => [$contact]));
%got = ();
for (1 .. 2) {
    $m = next_of($a);
    $got{$m->{method} // $m->{status}}++;
    $a->send(sip_reply($m, 200, 'OK')) if ($m->{method} // '') eq 'BYE';
}
is_deeply(\%got, { ACK => 1, BYE => 1 }, 'its ACK, and BYE');
is(ended($phone), 0, 'the phone is content');

# and gives up

$phone = sipp('cancel', '-s', $user, '127.0.0.1:' . port(8060));
$in = next_of($a);
is($in->{method}, 'INVITE', 'INVITE of the phone');
$a->send(sip_reply($in, 180, 'Ringing', to_tag => 'alice',
    extra => [ (map { "Record-Route: $_" } routes($in)), $contact ]));
$m = next_of($a);
is($m->{method}, 'CANCEL', 'CANCEL of the phone');
$a->send(sip_reply($m, 200, 'OK'));
$a->send(sip_reply($in, 487, 'Request Terminated', to_tag => 'alice'));
is(next_of($a)->{method}, 'ACK', 'ACK of the 487');
is(ended($phone), 0, 'the phone is content');

my $counters = ims_status()->{counters};
is($counters->{probe_failed}, 0, 'probes answered, whichever worker got it');
is($counters->{response_unmatched}, 0, 'all responses matched');
is($counters->{core_bad}, 0, 'nothing malformed');
is($counters->{core_timeout}, 0, 'nobody waited in vain');
cmp_ok($counters->{udp_large}, '>=', 2, 'large ones went by TCP');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

# CANCEL, and an answered call with re-INVITE and BYE

sub call {
    my ($way, $from, $to, $filler) = @_;

    my $label = "$way, " . (length $filler ? 'by TCP' : 'by UDP');
    my $cid = id();
    my $invite = $from->{ua}->request('INVITE', to => $to->{id}{impu},
        from_tag => 'caller', call_id => $cid, type => 'application/sdp',
        body => "v=0\r\n$filler", extra => [contact($from)]);
    $from->send($invite);
    next_of($from);
    my $in = next_of($to);
    $to->send(answer($to, $in, 180, 'Ringing'));
    is(next_of($from)->{status}, 180, "$label: ringing");

    my $cancel = $invite =~ s/^INVITE/CANCEL/r;
    $cancel =~ s/^(CSeq: \d+ )INVITE/$1CANCEL/m;
    $cancel =~ s/^(?:Contact|Content-Type): .*\r\n//mg;
    $cancel =~ s/^Content-Length: .*?\z/Content-Length: 0\r\n\r\n/ms;
    $from->send($cancel);
    next_of($from);
    my $c = next_of($to);
    $to->send(sip_reply($c, 200, 'OK'));
    $to->send(answer($to, $in, 487, 'Request Terminated'));
    is(next_of($to)->{method}, 'ACK', "$label: cancelled");
    is(next_of($from)->{status}, 487, "$label: 487");

    $cid = id();
    $from->send($from->{ua}->request('INVITE', to => $to->{id}{impu},
        from_tag => 'caller', call_id => $cid, type => 'application/sdp',
        body => "v=0\r\n$filler", extra => [contact($from)]));
    next_of($from);
    $in = next_of($to);
    $to->send(answer($to, $in, 200, 'OK'));
    my $ok = next_of($from);
    is($ok->{status}, 200, "$label: answered");

    my %uac = (call_id => $cid, to => $to->{id}{impu}, from_tag => 'caller',
        to_tag => 'called', ruri => uri($ok), routes => [reverse routes($ok)]);
    my %uas = (call_id => $cid, to => $from->{id}{impu}, from_tag => 'called',
        to_tag => 'caller', ruri => uri($in), routes => [routes($in)]);

    $from->send(inside($from, 'ACK', %uac, cseq => $from->{ua}{cseq}));
    is(next_of($to)->{method}, 'ACK', "$label: ACK");

    for ([$from, $to, \%uac], [$to, $from, \%uas]) {
        my ($x, $y, $d) = @$_;
        $x->send(inside($x, 'INVITE', %$d, extra => [contact($x)]));
        next_of($x);
        my $m = next_of($y);
        $y->send(sip_reply($m, 200, 'OK', extra => [contact($y)]));
        my $r = next_of($x);
        $x->send(inside($x, 'ACK', %$d, cseq => $x->{ua}{cseq}));
        is("$m->{method} $r->{status} " . next_of($y)->{method},
            'INVITE 200 ACK', "$label: re-INVITE");
    }

    $to->send(inside($to, 'BYE', %uas));
    my $bye = next_of($from);
    $from->send(sip_reply($bye, 200, 'OK'));
    is("$bye->{method} " . next_of($to)->{status}, 'BYE 200', "$label: BYE");
}


sub user {
    my $c = ImsClient->new(user => $_[0]);
    $c->send($c->{ua}->register());
    is(next_of($c)->{status}, 200, "$_[0] registered");

    return $c;
}


sub next_of {
    my ($c) = @_;

    return $c->answer(8) // { method => 'nothing', status => 'nothing',
                              text => '', body => '', lines => [] };
}


sub id { return 'udp-' . int(rand 1e9) . '@x' }


sub contact { return 'Contact: <' . $_[0]{ua}->contact() . ';ob>' }


sub uri { return (sip_header($_[0], 'Contact') // '') =~ /<([^>]+)>/ ? $1 : '' }


sub routes { return ImsCall::values_of($_[0], 'Record-Route') }


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


sub sipp {
    my ($scenario, @args) = @_;

    my $name = "sipp-$scenario-" . ++$phones;

    return ims_spawn($t, "$name.log", 'sipp',
        '-sf', "$Ims::ROOT/t/sipp/$scenario.xml", '-t', 'u1', '-m', 1,
        '-i', '127.0.0.1', '-mi', '127.0.0.1', '-nostdin', '-timeout', 20,
        '-timeout_error', '-trace_err', '-error_file',
        $t->testdir() . "/$name.err", @args);
}


# its exit status, or undef

sub ended {
    my ($pid) = @_;
    my $status;

    ims_wait(22, sub { waitpid($pid, WNOHANG) == $pid && ($status = $?, 1) });
    diag(map { $t->read_file($_) } grep { -e $t->testdir() . "/$_" }
        map { s{.*/}{}r } glob $t->testdir() . '/sipp-*.err') if $status;

    return defined $status ? $status >> 8 : undef;
}


# the phone's binding, as an edge of its own would have made it

sub phone_registers {
    my ($port) = @_;

    my $s = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '127.0.0.1',
        PeerAddr => '127.0.0.1:' . port(8060)) or die "core: $!\n";

    $s->send(join "\r\n", 'REGISTER sip:ims.example SIP/2.0',
        'Via: SIP/2.0/UDP 127.0.0.1:' . $s->sockport()
        . ';branch=z9hG4bKphone',
        'Max-Forwards: 70', 'From: <sip:phone@ims.example>;tag=r',
        'To: <sip:phone@ims.example>', 'Call-ID: phone-register',
        'CSeq: 1 REGISTER', "Contact: <sip:phone\@127.0.0.1:$port>",
        "Path: <sip:127.0.0.1:$port;lr>", 'Expires: 600',
        'Authorization: Digest username="phone@ims.example", '
        . 'realm="ims.example", nonce="", uri="sip:ims.example", '
        . 'response="", integrity-protected="auth-done"',
        'Content-Length: 0', '', '');

    $s->recv(my $line, 4096) if IO::Select->new($s)->can_read(5);
    die "the phone is not registered\n" unless ($line // '') =~ / 200 /;
}

###############################################################################
