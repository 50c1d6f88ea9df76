#!/usr/bin/perl

# Tests for calls between a client and SIPp as a phone of the IMS, through
# Kamailio.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

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
    ->has_daemon('kamailio')->has_daemon('sipp')->plan(31);

ims_keys($t);
ims_pool($t);
ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 3));
$t->run();

###############################################################################

my $c = ImsClient->new(user => 'alice');
my $contact = 'Contact: <' . $c->{ua}->contact() . ';ob>';
my ($user) = $c->{id}{impu} =~ /sip:([^@]+)/;
my $n = 0;

$c->send($c->{ua}->register());
is(next_of()->{status}, 200, 'registered');

# the phone is called

phone_registers(port(8061));
my $phone = sipp('called', '-p', port(8061));
ok(ims_wait(5, sub { IO::Socket::INET->new(Proto => 'tcp',
    PeerAddr => '127.0.0.1:' . port(8061)) }), 'phone is there');

$c->send($c->{ua}->request('INVITE', to => 'sip:phone@ims.example',
    from_tag => 'alice', call_id => 'to-phone', type => 'application/sdp',
    body => "v=0\r\n", extra => [$contact]));
is(next_of()->{status}, 100, 'at once');
my $early = next_of();
is($early->{status}, 183, '183 of the phone');
like($early->{body}, qr/^s=early/m, 'with early media');
my $ok = next_of();
is($ok->{status}, 200, 'answered');

my ($far) = sip_header($ok, 'Contact') =~ /<([^>]+)>/;
my ($tag) = sip_header($ok, 'To') =~ /;tag=([^;]+)/;
my @routes = map { "Route: $_" } reverse ImsCall::values_of($ok,
    'Record-Route');
my %dialog = (to => 'sip:phone@ims.example', ruri => $far,
    from_tag => 'alice', to_tag => $tag, call_id => 'to-phone',
    extra => \@routes);

$c->send($c->{ua}->request('ACK', %dialog, cseq => $c->{ua}{cseq}));

my $m = next_of();
is($m->{method}, 'INVITE', 're-INVITE of the phone');
$c->send(sip_reply($m, 200, 'OK', extra => [$contact]));
is(next_of()->{method}, 'ACK', 'its ACK');

$c->send($c->{ua}->request('INFO', %dialog));
my %got;
for (1 .. 2) {
    $m = next_of();
    $got{$m->{method} // $m->{status}}++;
    $c->send(sip_reply($m, 200, 'OK')) if ($m->{method} // '') eq 'BYE';
}
is_deeply(\%got, { 200 => 1, BYE => 1 }, 'INFO answered; the phone hangs up');
is(ended($phone), 0, 'the phone is content');

# the phone calls

$phone = sipp('caller', '-s', $user, '127.0.0.1:' . port(8060));
my $in = next_of();
is($in->{method}, 'INVITE', 'INVITE of the phone');
is(sip_header($in, 'P-Asserted-Identity'), '<sip:phone@ims.example>',
    'who is calling');
my @rr = map { "Record-Route: $_" } sip_headers($in, 'Record-Route');
my @answer = (to_tag => 'alice', extra => [@rr, $contact]);

$c->send(sip_reply($in, 183, 'Session Progress', to_tag => 'alice',
    body => "v=0\r\n", extra => [@rr, $contact, 'Require: 100rel', 'RSeq: 1',
        'Content-Type: application/sdp']));
$m = next_of();
is($m->{method}, 'PRACK', 'PRACK of the phone');
is(sip_header($m, 'RAck'), '1 1 INVITE', 'of our 183');
$c->send(sip_reply($m, 200, 'OK'));
$c->send(sip_reply($in, 200, 'OK', @answer));
is(next_of()->{method}, 'ACK', 'ACK');
$m = next_of();
is($m->{method}, 'INVITE', 're-INVITE');
like(sip_header($m, 'To'), qr/;tag=alice/, 'of this call');
$c->send(sip_reply($m, 200, 'OK', extra => [$contact]));

# ACK and BYE have no order between them on their way through a core

%got = ();
for (1 .. 2) {
    $m = next_of();
    $got{$m->{method} // $m->{status}}++;
    $c->send(sip_reply($m, 200, 'OK')) if ($m->{method} // '') eq 'BYE';
}
is_deeply(\%got, { ACK => 1, BYE => 1 }, 'its ACK, and BYE');
is(ended($phone), 0, 'the phone is content');

# and gives up

for (1 .. 3) {
    $phone = sipp('cancel', '-s', $user, '127.0.0.1:' . port(8060));
    $in = next_of();
    $c->send(sip_reply($in, 180, 'Ringing', to_tag => 'alice',
        extra => [(map { "Record-Route: $_" }
                   sip_headers($in, 'Record-Route')), $contact]));
    $m = next_of();
    is($m->{method}, 'CANCEL', 'CANCEL of the phone');
    $c->send(sip_reply($m, 200, 'OK'));
    $c->send(sip_reply($in, 487, 'Request Terminated', to_tag => 'alice'));
    is(next_of()->{method}, 'ACK', 'ACK of the 487');
    is(ended($phone), 0, 'the phone is content');
}

is(ims_status()->{counters}{response_unmatched}, 0, 'all responses matched');
is(ims_status()->{counters}{dialog_forged}, 0, 'no dialog doubted');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub next_of {
    return $c->answer(8) // { method => 'nothing', status => 0, text => '',
                              body => '', lines => [] };
}


sub sipp {
    my ($scenario, @args) = @_;

    my $name = "sipp-$scenario-" . ++$n;

    return ims_spawn($t, "$name.log", 'sipp',
        '-sf', "$Ims::ROOT/t/sipp/$scenario.xml", '-t', 't1', '-m', 1,
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

    my $s = IO::Socket::INET->new(Proto => 'tcp',
        PeerAddr => '127.0.0.1:' . port(8060)) or die "core: $!\n";

    print $s join "\r\n", 'REGISTER sip:ims.example SIP/2.0',
        "Via: SIP/2.0/TCP 127.0.0.1:$port;branch=z9hG4bKphone",
        'Max-Forwards: 70', 'From: <sip:phone@ims.example>;tag=r',
        'To: <sip:phone@ims.example>', 'Call-ID: phone-register',
        'CSeq: 1 REGISTER',
        "Contact: <sip:phone\@127.0.0.1:$port;transport=tcp>",
        "Path: <sip:127.0.0.1:$port;transport=tcp;lr>", 'Expires: 600',
        'Authorization: Digest username="phone@ims.example", '
        . 'realm="ims.example", nonce="", uri="sip:ims.example", '
        . 'response="", integrity-protected="auth-done"',
        'Content-Length: 0', '', '';

    my $line = <$s> // '';
    die "the phone is not registered: $line\n" unless $line =~ / 200 /;
}

###############################################################################
