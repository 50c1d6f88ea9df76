#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: purge by an edge, holds.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use JSON::PP;
use Time::HiRes qw/ sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $p = ImsPool->new();
my ($r, $h, $status, $out, $err);

sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }
sub json { ctl(@_); return eval { decode_json($out) } || {}; }
sub acquire { return $h = $p->hash($p->cmd($p->acquire(@_))); }

$p->pool('web', 4, 'TTL', 600, 'D', 1, 'MARGIN', 1, 'PURGE', 'on');
$p->pool('not', 1, 'TTL', 600, 'D', 1, 'MARGIN', 1);
$p->pool('else', 1, 'TTL', 600, 'D', 1, 'MARGIN', 1, 'PURGE', 'on');

like($p->cmd('POOL', 'ALTER', 'web', 'PURGE', 'perhaps'), qr/^-BADARG PURGE/,
	'on or off');
is(json('pool', 'list')->[$_]{purge}, qw/ on off on /[$_], "pool $_")
	for 0 .. 2;

my $edge = $p->connect();
is($edge->cmd('AUTH', $p->secret('edge')), '+OK', 'edge');
my $wwsf = $p->connect();
is($wwsf->cmd('AUTH', $p->secret('wwsf')), '+OK', 'wwsf');

like($wwsf->cmd('PURGE', 'NEXT', '*', 1), qr/^-DENIED/, 'not for a wwsf');
like($wwsf->cmd('PURGED', '0' x 16), qr/^-DENIED/, 'neither this');
like($edge->cmd('PURGE', 'NEXT', '*', $_), qr/^-BADARG/, "max: $_")
	for 0, 65, 'x';
like($edge->cmd('PURGED', $_), qr/^-BADARG/, "purge: $_")
	for '', 'x' x 16, '0' x 15;
like($edge->cmd('PURGED', 'f' x 16), qr/^-NOTFOUND/, 'no such');
is_deeply($edge->cmd('PURGE', 'NEXT', '*', 1), [], 'nothing to do');

my $lease = acquire('web', 'alice')->{lease};
my $impu = $h->{impu}[0];
acquire('web', 'bob');
$p->cmd($p->release('web', 'alice', $lease));
$p->cmd('REVOKE', 'LEASE', $h->{lease});
$p->cmd($p->release('not', 'dave', acquire('not', 'dave')->{lease}));
$p->cmd($p->release('else', 'dave', acquire('else', 'dave')->{lease}));

is_deeply($edge->cmd('PURGE', 'NEXT', '*', 64), [], 'not before D');
sleep 1.1;

$r = $edge->cmd('PURGE', 'NEXT', 'web', 1);
is(@$r, 1, 'one of web');
$h = $p->hash($r->[0]);
is_deeply([@$h{qw/ lease pool home impu /}],
	[$lease, 'web', 'ims.example', [$impu]], 'alice\'s');
like($h->{purge}, qr/^[0-9a-f]{16}$/, 'its number');
cmp_ok($h->{send_by}, '<=', $p->deadline(1), 'to be sent soon');
cmp_ok($h->{answer_by}, '>', $p->deadline(30), 'to be answered in time');

like($p->cmd($p->acquire('web', 'alice')), qr/^-BUSY/, 'alice has to wait');
cmp_ok(json('show', $impu)->{rest}, '>', json('show', $impu)->{now} + 500000,
	'a long rest');
is($edge->cmd('PURGED', $h->{purge}), '+OK', 'purged');
cmp_ok(json('show', $impu)->{rest}, '<=', json('show', $impu)->{now} + 1000,
	'a short one');
is(json('show', $impu)->{flags}, 'purged', 'told');
like($edge->cmd('PURGED', $h->{purge}), qr/^-NOTFOUND/, 'once');
like($p->cmd('INFO'), qr/^purged:1\r$/m, 'counted');
sleep 1.1;
is(json('show', $impu)->{state}, 'free', 'free');

$r = $edge->cmd('PURGE', 'NEXT', '*', 64);
is_deeply([sort map { $p->hash($_)->{pool} } @$r], ['else', 'web'],
	'of all pools that want it');
is_deeply($edge->cmd('PURGE', 'NEXT', '*', 64), [], 'that was all');

# the whole pool; ims-poolctl

$lease = acquire('web', 'carol')->{lease};
is(ctl('revoke', 'pool', 'web'), 0, 'revoke pool');
sleep 1.1;
$r = json('purge', 'next', 'web');
is_deeply([map { $_->{lease} } @$r], [$lease], 'ims-poolctl purge next');
is(ctl('purge', 'done', $r->[0]{purge}), 0, 'purge done');
is(ctl('purge', 'done', $r->[0]{purge}), 1, 'once');

# an edge of one pool only

$p->stop();
open my $f, '>', $p->dir() . '/secrets/else.secret' or die $!;
print $f "edge " . 'e' x 20 . " else\n";
close $f;
chmod 0600, $p->dir() . '/secrets/else.secret';
$p->start();
$edge = $p->connect();
is($edge->cmd('AUTH', 'e' x 20), '+OK', 'edge of one pool');
$p->cmd($p->release('web', 'alice', acquire('web', 'alice')->{lease}));
$p->cmd($p->release('else', 'dave', acquire('else', 'dave')->{lease}));
sleep 1.1;
$r = $edge->cmd('PURGE', 'NEXT', '*', 64);
is_deeply([map { $p->hash($_)->{pool} } @$r], ['else'], 'gets that one\'s');
is_deeply($edge->cmd('PURGE', 'NEXT', 'web', 64), [], 'and no other\'s');

# hold

acquire('web', 'alice');
is(ctl('hold', 100), 0, 'hold');
like($p->cmd($p->acquire('web', 'erin')), qr/^-HOLD (99|100)$/,
	'nothing is given');
is(acquire('web', 'alice')->{state}, 'same', 'leases live on');
like($p->cmd('INFO'), qr/^hold_asked_seconds:(99|100)\r$/m, 'told');
is(ctl('hold', 'end'), 0, 'hold end');
is(acquire('web', 'erin')->{state}, 'new', 'given again');
is(ctl('hold', $_), 1, "hold: $_") for 'x', 0;

is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');

done_testing();

###############################################################################
