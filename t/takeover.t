#!/usr/bin/perl

# Tests for a device that comes back on another connection, in the same worker
# or another one, and for flows that nobody comes back to: when, and with what
# words, the edge takes their registration back.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss')->plan(57);

$t->todo_alerts();      # nginx has one for a killed worker

ims_keys($t);
ims_pool($t, size => 60);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '2500ms',
    http => 'ims_ping_interval 10m;'));      # most clients here never read
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $answer);

# another connection of the same device, until both workers had it

my $c = ImsClient->new();
my $path = path($c);
my %way;
my (@path, @closed, @status);
my $before = counters();

for (1 .. 30) {
    my $was = owner($c);
    my $ws = $c->{ws};

    $c->connect();
    ($m, undef, $answer) = $c->registered($core);

    push @path, sip_header($m, 'Path');
    push @status, $answer ? $answer->{status} : 0;
    push @closed, join ' ', $ws->closed(3);

    $way{owner($c) == $was ? 'same' : 'other'}++;
    last if $_ >= 6 && keys %way == 2;
}

is(join(' ', sort keys %way), 'other same', 'in the same worker and another');
is(scalar(grep { $_ eq $path } @path), @path, 'always the same Path');
is(scalar(grep { $_ == 200 } @status), @path, 'registered each time');
is(scalar(grep { $_ eq '1008 replaced by a newer connection' } @closed),
    @path, 'the old connection is closed');
is(counters()->{flow_taken_over} - $before->{flow_taken_over}, @path,
    'counted');
ok($c->alive() && $core->silent(3.5), 'and nothing is taken back');

# a REGISTER is on its way when the device comes back: the late answer is for
# nobody

for my $other (0, 1) {
    my $was = owner($c);
    my $ws = $c->{ws};

    $c->send($c->{ua}->register());
    my ($late, $way) = $core->request();

    for (1 .. 30) {
        $c->connect();
        last if (owner($c) != $was) == $other;
    }

    $c->send($c->{ua}->register());
    ($m, $link) = $core->request();
    $core->reply($way, $late, 200, 'OK');
    $core->reply($link, $m, 200, 'OK');
    $answer = $c->answer();

    my $where = $other ? 'from another worker' : 'in one worker';
    is($answer && sip_header($answer, 'CSeq'), sip_header($m, 'CSeq'),
        "taken over while registering, $where");
    is(($ws->closed(3))[0], 1008, 'the old one is closed');
}
is($core->silent(2), 1, 'nothing else happens');

# devices are told apart by instance and reg-id, and by the lease


my $twin = bless { %$c, ua => bless { %{$c->{ua}},
    instance => 'urn:uuid:00000000-0000-4000-8000-000000000001',
    user => 'twin' }, 'ImsSip' }, 'ImsClient';
$twin->connect();
isnt(path($twin), $path, 'a second device of the user: another slot');

my $thief = ImsClient->new(ua => { instance => $c->{ua}{instance} });
isnt(path($thief), $path, 'the instance of another user: another slot');
ok($c->alive() && $twin->alive() && $thief->alive(), 'all of them live');

# lost, and back in time

$c->{ws}->drop();
sleep 0.7;
$c->connect();
($m, undef, $answer) = $c->registered($core);
is(sip_header($m, 'Path'), $path, 'back within the grace: the same slot');
ok($core->silent(3.5), 'nothing is taken back');

# and with a fresh token, which is of the same lease

$c->{ws}->drop();
$c->renew();
$c->connect();
is(path($c), $path, 'with a fresh token: the same slot');

# lost for good

my $start = time();
$c->{ws}->drop();
($m, $link) = $core->request(12);
my $took = time() - $start;

ok($m, 'taken back');
ok($took > 2.4 && $took < 20, 'when the grace is over');
is($m->{start}, 'REGISTER sip:ims.example SIP/2.0', 'Request-URI');
is(sip_header($m, 'Contact'), '<' . $c->{ua}->contact() . '>;expires=0',
    'the exact Contact, no instance, no reg-id');
is(sip_header($m, 'Expires'), 0, 'Expires');
is(sip_header($m, 'To'), "<$c->{id}{impu}>", 'To');
like(sip_header($m, 'From'), qr/^<\Q$c->{id}{impu}\E>;tag=\w+$/, 'From');
isnt(sip_header($m, 'Call-ID'), $c->{ua}{call_id}, 'a Call-ID of the edge');
is(sip_header($m, 'CSeq'), '1 REGISTER', 'CSeq');
is(sip_header($m, 'Path'), $path, 'the Path of the slot');
is(join('|', sip_headers($m, 'Authorization')),
    "Digest username=\"$c->{id}{impi}\",realm=\"ims.example\",nonce=\"\","
    . 'uri="sip:ims.example",response="",integrity-protected="auth-done"',
    'authorized by the edge');
is(scalar(sip_headers($m, 'Via')), 1, 'one Via');

# while it is under way, a device that comes back waits

$c->connect();
$c->send($c->{ua}->register());
$answer = $c->answer();
is($answer->{status}, 500, 'back while it is taken back');
ok(sip_header($answer, 'Retry-After'), 'when to come again');
ok($core->silent(0.2), 'nothing crosses it');

$core->reply($link, $m, 200, 'OK', contact => '');
ok(ims_wait(3, sub {
    counters()->{deregister_done} > 0
}), 'answered');
$m = ($c->registered($core))[0];
isnt(sip_header($m, 'Path'), $path, 'then with a slot of its own');
$path = sip_header($m, 'Path');

# a core that is not well is asked again, one sequence of a slot

$c->{ws}->drop();
($m, $link) = $core->request(12);
my $first = sip_header($m, 'Call-ID');
$core->reply($link, $m, 503, 'Overloaded');
$start = time();
($m, $link) = $core->request(16);
$took = time() - $start;
ok($m && $took > 5, 'asked again, after a while');
is($m && join(' ', map { sip_header($m, $_) } qw/ Call-ID CSeq /),
    "$first 2 REGISTER", 'in one sequence');

# now the lease begins anew with another session: the same user, elsewhere.
# Nothing more is sent once it is not ours.

$core->reply($link, $m, 404, 'Not Found') if $m;
ok($core->silent(1.5), '404: it is not there, which will do');

# without an instance each connection is a slot of its own; the binding that
# the old one and the new one share is not taken away from the new one

my $plain = ImsClient->new(ua => { instance => '' });
my $one = path($plain);
$plain->{ws}->drop();
sleep 0.3;
$plain->connect();
isnt(path($plain), $one, 'no instance: another slot');
ok($core->silent(4), 'the Contact that both have stays');

$plain->{ws}->drop();
($m, $link) = $core->request(12);
is(sip_header($m, 'Contact'), '<' . $plain->{ua}->contact() . '>;expires=0',
    'and goes with the last one');
$core->reply($link, $m, 200, 'OK', contact => '');
ok($core->silent(3.5), 'once');

# the lease is somebody's again: what is late is not sent

my $late = ImsClient->new();
$late->registered($core);
$late->{ws}->drop();
ims_poolctl($t, 'revoke', 'lease', $late->{id}{lease});
$late->renew();         # the same user, a new lease
ok($core->silent(4), 'another lease: nothing is taken back');

# de-registered in the proper way: nothing to take back

my $good = ImsClient->new();
$good->registered($core);
$good->send($good->{ua}->register(expires => 0));
($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK', contact => '');
is($good->answer()->{status}, 200, 'de-registered by the client');
$good->{ws}->close(1000);
ok($core->silent(3.5), 'nothing to take back');

# without a token, on the flow itself (SIP.js)

$good->connect();
$good->registered($core);
$good->send($good->{ua}->register(expires => 0, token => undef));
($m, $link) = $core->request();
like(sip_header($m, 'Authorization'), qr/auth-done/, 'without a token');
$core->reply($link, $m, 200, 'OK', contact => '');
is($good->answer()->{status}, 200, 'de-registered');

# Contact: *, of a lease with this one session and then with more

$good->registered($core);
$good->send($good->{ua}->register(expires => 0, contact => '*'));
($m, $link) = $core->request();
is(sip_header($m, 'Contact'), '*', 'Contact: *');
$core->reply($link, $m, 200, 'OK', contact => '');
is($good->answer()->{status}, 200, 'de-registered');
$good->{ws}->close(1000);

# lost before any answer: what may be bound is taken back

my $hasty = ImsClient->new();
$hasty->send($hasty->{ua}->register());
$core->request();
$hasty->{ws}->drop();
($m, $link) = $core->request(12);
is($m && sip_header($m, 'Contact'),
    '<' . $hasty->{ua}->contact() . '>;expires=0', 'lost before the 200');
$core->reply($link, $m, 200, 'OK', contact => '') if $m;

# a worker is killed: its flows are taken back by the other one, or by the
# one that follows it, and those that come back in time go on

my @flows = map { ImsClient->new() } 1 .. 8;
my %slot = map { $_ => path($_) } @flows;
my %owner = map { $_ => owner($_) } @flows;
my $dead = $owner{$flows[0]};
my @lost = grep { $owner{$_} == $dead } @flows;
my @kept = grep { $owner{$_} != $dead } @flows;
my $back = shift @lost;

kill 'KILL', $dead;
is(($back->{ws}->closed(3))[0], 1006, 'worker killed');
$back->connect();
($m, undef, $answer) = $back->registered($core);
is($answer && $answer->{status}, 200, 'back in time');
is(sip_header($m, 'Path'), $slot{$back}, 'the same slot');

my %bound = map { '<' . $_->{ua}->contact() . '>;expires=0' => 1 } @lost;
my $n = keys %bound;
while (keys %bound and ($m, $link) = $core->request(12)) {
    delete $bound{sip_header($m, 'Contact')};
    $core->reply($link, $m, 200, 'OK', contact => '');
}
is(keys %bound, 0, "the others are taken back ($n)");
ok($core->silent(3.5), 'and nothing else')
    or diag(($core->request(0))[0]{text});
is(scalar(grep { $_->alive() } @kept, $back), @kept + 1,
    'flows of the other worker live');

# no slot is left in use that nobody has

$_->{ws}->drop() for @kept, $back, $twin, $thief;
while (($m, $link) = $core->request(5)) {
    $core->reply($link, $m, 200, 'OK', contact => '');
}
ok(ims_wait(5, sub { ims_status()->{flows} == 0 }),
    'no slot is left in use') or diag(ims_status()->{flows});

is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 1, 'one alert, of the kill');

###############################################################################

sub path {
    my ($c, %over) = @_;

    return sip_header(($c->registered($core, %over))[0], 'Path');
}


# the worker that serves a client

sub owner {
    return ims_owner($_[0]{ws}{s});
}


sub counters { return ims_status()->{counters} }

###############################################################################
