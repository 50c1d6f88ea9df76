#!/usr/bin/perl

# Tests for requests that are never answered: 504 after 30 s, or for INVITE
# 408 after 32 s (RFC 3261 Timer B, RFC 4320), in both directions.

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

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(24);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my ($c, $d) = (ImsClient->new(user => 'alice'), ImsClient->new(user => 'bob'));
ImsCall::registered($_, $core) for $c, $d;

# all at once: to the core, that is, and to a client

my $start = time();

my $silent = ImsCall->calls($c, $core, until => 'invite');
my $cancelled = ImsCall->calls($c, $core, until => 'invite');
$c->send($cancelled->{sent} =~ s/^INVITE/CANCEL/r
    =~ s/^(CSeq: 1 )INVITE/$1CANCEL/mr
    =~ s/^(?:Contact|Content-Type): .*\r\n//mgr
    =~ s/^Content-Length: .*?\z/Content-Length: 0\r\n\r\n/msr);
is($c->answer()->{status}, 200, 'CANCEL held');

my $ringing = ImsCall->calls($c, $core, until => 'ringing');
$c->send($c->{ua}->request('MESSAGE', call_id => 'm1',
    to => 'sip:bob@ims.example'));
$core->request();

$core->send($in, ImsCall::core_request($d, 'INVITE', call_id => 'i2'));
$core->send($in, ImsCall::core_request($d, 'MESSAGE', call_id => 'm2'));
is(($core->request())[0]->{status}, 100, '100 to the core');
my $invite = $d->answer();
is($invite->{method}, 'INVITE', 'INVITE to the silent client');
is($d->answer()->{method}, 'MESSAGE', 'MESSAGE to the silent client');

# what comes of them, by Call-ID: status and seconds

my (%at_client, %at_core, @other);

while (time() < $start + 38
       && (keys %at_client < 3 || keys %at_core < 2))
{
    my $a = sip_parse($c->{ws}->recv(0.1) // '');
    $at_client{sip_header($a, 'Call-ID')} = [$a->{status}, time() - $start]
        if $a && $a->{status};

    my ($m) = $core->request(0.1) or next;
    $m->{status} ? $at_core{sip_header($m, 'Call-ID')} =
                   [$m->{status}, time() - $start]
                 : push @other, $m->{method};
}

took($at_client{m1}, 504, 30, 'MESSAGE of a client');
took($at_client{$silent->{call_id}}, 408, 32, 'INVITE of a client');
took($at_client{$cancelled->{call_id}}, 408, 32, 'one that it cancelled');
took($at_core{m2}, 504, 30, 'MESSAGE of the core');
took($at_core{i2}, 408, 32, 'INVITE of the core');
ok(!exists $at_client{$ringing->{call_id}}, 'one that rings goes on');
is("@other", '', 'nothing else was sent to the core');

is($ringing->far_reply(200, 'OK')->{status}, 200, 'and is answered');

# late signs of life are for nobody: what rings is cancelled, and an answer is
# hung up

my @late = (to_tag => 'late', extra => [
    "Record-Route: $silent->{core_route}", 'Contact: <sip:bob@192.0.2.1>']);

$core->send($silent->{link},
    sip_reply($silent->{invite}, 180, 'Ringing', @late));
my ($m) = $core->request();
is($m ? $m->{method} : 'nothing', 'CANCEL', 'late 180 of the core: CANCEL');
is(sip_header($m, 'Via'), sip_header($silent->{invite}, 'Via'),
    'of that INVITE');

$core->send($silent->{link}, sip_reply($silent->{invite}, 200, 'OK', @late));
for (qw/ ACK BYE /) {
    ($m) = $core->request();
    is($m ? $m->{method} : 'nothing', $_, "late 200 of the core: $_");
}
ok(!defined $c->{ws}->recv(0.2), 'the caller hears nothing of it');

$d->send(sip_reply($invite, 180, 'Ringing', to_tag => 'd', extra =>
    [map { "Record-Route: $_" } sip_headers($invite, 'Record-Route')]));
$m = $d->answer();
is($m ? $m->{method} : 'nothing', 'CANCEL', 'late 180 of the client: CANCEL');
is(sip_header($m, 'Via'), sip_header($invite, 'Via'), 'of its INVITE');
$d->send(sip_reply($m, 200, 'OK'));
$d->send(sip_reply($invite, 487, 'Request Terminated', to_tag => 'd'));
$m = $d->answer();
is($m ? $m->{method} : 'nothing', 'ACK', 'ACK of its 487');
ok($core->silent(0.2), 'the core hears nothing of it');

ok($c->alive() && $d->alive(), 'the flows are there');
is(ims_status()->{counters}{core_timeout}, 5, 'counted');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub took {
    my ($got, $status, $seconds, $name) = @_;

    my $ok = $got && $got->[0] == $status && $got->[1] > $seconds - 1.5
        && $got->[1] < $seconds + 4;

    ok($ok, "$name: $status in $seconds s")
        or diag $got ? "@$got" : 'nothing';
}

###############################################################################
