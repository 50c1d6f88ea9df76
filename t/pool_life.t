#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: sessions, bars, identities and pools that are disabled,
# enabled and removed, from the socket and from ims-poolctl.

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
my ($r, $h, $g, $status, $out, $err);

sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }
sub json { ctl(@_); return eval { decode_json($out) } || {}; }
sub acquire { return $h = $p->hash($p->cmd($p->acquire(@_))); }
sub faults { return $p->hash($p->cmd('CHECK'))->{faults}; }

sub wait_for {
	my ($what) = @_;
	for (1 .. 300) {
		return 1 if $what->();
		sleep 0.05;
	}
	return 0;
}

$p->pool('web', 20, 'TTL', 300, 'TTLMAX', 600, 'D', 1, 'MARGIN', 1);
$p->pool('brief', 1, 'TTL', 2, 'D', 1, 'MARGIN', 1);
$p->pool('each', 10, 'PER', 'session');

# sessions

my @sid = map { sprintf '%016x', $_ } 1 .. 6;
my $lease = acquire('web', 'alice', $sid[0])->{lease};
is(acquire('web', 'alice', $sid[$_])->{lease}, $lease, "session $_") for 1 .. 3;
is(@{json('show', $lease)->{sessions}}, 4, 'four sessions');
is(acquire('web', 'alice', $sid[4])->{lease}, $lease, 'a fifth');
is_deeply([sort map { $_->{sid} } @{json('show', $lease)->{sessions}}],
	[@sid[1 .. 4]], 'takes the place of the first');
like($p->cmd($p->renew('web', 'alice', $lease, $sid[0])), qr/^-ENDED/,
	'which is renewed no more');
like($p->cmd($p->release('web', 'alice', $lease, $sid[0])), qr/^-ENDED/,
	'a late release of it does nothing');
is($p->hash($p->cmd($p->release('web', 'alice', $lease, $sid[1])))->{ended}, 0,
	'one goes');
is($p->hash($p->cmd('SHOW', 'LEASE', $lease))->{state}, 'leased', 'three stay');
$p->cmd($p->release('web', 'alice', $lease, $_)) for @sid[2, 3];
is($p->hash($p->cmd($p->release('web', 'alice', $lease, $sid[4])))->{ended}, 1,
	'the last one');
is($p->hash($p->cmd('SHOW', 'LEASE', $lease))->{state}, 'resting', 'it rests');

# a pool per=session

is(json('pool', 'list')->[2]{per}, 'session', 'pool list');
$lease = acquire('each', 'alice', $sid[0])->{lease};
isnt(acquire('each', 'alice', $sid[1])->{lease}, $lease, 'a lease a session');
is(acquire('each', 'alice', $sid[0])->{lease}, $lease, 'the same for the same');
is(ctl('revoke', 'user', 'each', 'alice', '--realm', 'site'), 0, 'revoke user');
is(decode_json($out)->{revoked}, 2, 'both');

# bar

my $impi = acquire('web', 'bob')->{impi};
is(ctl('revoke', 'lease', $h->{lease}, '--bar'), 0, 'revoke --bar');
is(json('show', $impi)->{flags}, 'barred', 'told');
isnt(acquire('web', 'bob')->{impi}, $impi, 'no way back');
like($p->cmd('REVOKE', 'IMPU', $h->{impu}[0], 'NIX'), qr/^-BADARG/, 'not BAR');
is($p->cmd('REVOKE', 'IMPU', $h->{impu}[0], 'BAR'), 1, 'by IMPU');
is($p->cmd('REVOKE', 'USER', '*', 'site', 'bob', 'BAR'), 0,
	'by user, after its end');
ok(!grep({ $_ eq acquire('web', 'bob')->{impi} } $impi), 'a third one');
is(ctl('revoke', 'pool', 'web', '--bar'), 1, 'not a whole pool');
is(faults(), 0, 'check');

# identities

is(ctl('identity', 'add', 'web', 'new@ims.example'), 2, 'add: without IMPU');
is(ctl('identity', 'add', 'web', 'new@ims.example', '--impu',
	'sip:new@ims.example', '--impu', 'tel:+15550199', '--display', 'New'), 0,
	'add');
is_deeply([@{json('show', 'tel:+1-555-0199')}{qw/ impi display state flags /}],
	['new@ims.example', 'New', 'free', ''], 'it is there');
is(ctl('identity', 'add', 'web', 'new2@ims.example', '--impu',
	'sip:NEW@ims.example'), 1, 'add: IMPU taken');
like($err, qr/IMPU taken \(DUPLICATE\)/, 'says so');
is(ctl('identity', 'add', 'web', 'a b', '--impu', 'sip:c@ims.example'), 1,
	'add: bad IMPI');
like($err, qr/\(BADROW\)/, 'says so');
is(ctl('identity', 'add', 'nix', 'c@ims.example', '--impu',
	'sip:c@ims.example'), 1, 'add: no pool');
is(ctl('identity', 'add', 'web', 'late@ims.example', '--impu',
	'sip:late@ims.example', '--rest', 1000), 0, 'add: to rest first');
is(json('show', 'late@ims.example')->{state}, 'resting', 'it does');

is(ctl('identity', 'disable', 'new@ims.example'), 0, 'disable');
is_deeply([@{json('show', 'new@ims.example')}{qw/ state flags /}],
	['off', 'disabled'], 'off');
is(ctl('identity', 'enable', 'sip:new@ims.example'), 0, 'enable');
is(json('show', 'new@ims.example')->{state}, 'free', 'free');

$impi = acquire('web', 'carol')->{impi};
$lease = $h->{lease};
is(json('identity', 'disable', $impi)->{ended}, 0, 'disable a leased one');
is_deeply([@{json('show', $impi)}{qw/ state flags /}], ['leased', 'closing'],
	'its lease goes on');
like($p->cmd($p->renew('web', 'carol', $lease)), qr/^-ENDED/, 'to its end');
is(json('identity', 'disable', $impi, '--now')->{ended}, 1, 'disable --now');
is(json('show', $impi)->{state}, 'off', 'off');
isnt(acquire('web', 'carol')->{impi}, $impi, 'another one');

is(ctl('identity', 'disable', 'nix@ims.example'), 1, 'disable: no such');
is(ctl('identity', 'disable', ' '), 1, 'disable: no name');
is(ctl('identity', 'remove', 'nix@ims.example'), 1, 'remove: no such');

$impi = acquire('brief', 'dave')->{impi};
my $impu = $h->{impu}[0];
is(ctl('identity', 'remove', $impu), 0, 'remove');
is_deeply([@{json('show', $impu)}{qw/ state flags /}], ['off', 'removing'],
	'on its way out');
is(ctl('identity', 'add', 'each', $impi, '--impu', $impu), 1, 'taken');
ok(wait_for(sub { ctl('identity', 'add', 'each', $impi, '--impu', $impu) == 0 }),
	'in another pool after the rest');
is(json('show', $impu)->{pool}, 'each', 'moved');
is(faults(), 0, 'check');

# pools

is(acquire('web', 'erin')->{state}, 'new', 'a lease');
is(ctl('pool', 'disable', 'web'), 0, 'pool disable');
is($p->cmd($p->acquire('web', 'erin')), '-HOLD 60', 'gives nothing');
is($p->hash($p->cmd('SHOW', 'LEASE', $h->{lease}))->{state}, 'leased',
	'the lease runs out');
is(json('pool', 'list')->[0]{state}, 'disabled', 'told');
is(ctl('pool', 'enable', 'web'), 0, 'pool enable');
is(acquire('web', 'erin')->{state}, 'same', 'goes on');
is(ctl('pool', 'disable', 'web', '--now'), 0, 'pool disable --now');
isnt($p->hash($p->cmd('SHOW', 'LEASE', $h->{lease}))->{state}, 'leased',
	'at once');
is(ctl('pool', 'enable', 'web'), 0, 'pool enable');

is(ctl('pool', 'drop', 'web'), 1, 'pool drop: not empty');
like($err, qr/--all removes them.*\(NOTEMPTY\)/, 'says so');
is(acquire('web', 'frank')->{state}, 'new', 'nothing happened');
is(ctl('pool', 'drop', 'web', '--all'), 0, 'pool drop --all');
like($p->cmd($p->acquire('web', 'frank')), qr/^-NOPOOL/, 'gives nothing');
isnt($p->hash($p->cmd('SHOW', 'LEASE', $h->{lease}))->{state}, 'leased',
	'its leases ended');
is(json('pool', 'stat', 'web')->{state}, 'dropping', 'on its way out');
is(faults(), 0, 'check');
$p->stop('KILL');
$p->start();
is(faults(), 0, 'check after a kill');
is(ctl('pool', 'create', 'empty', 'ims.example'), 0, 'an empty one');
is(ctl('pool', 'drop', 'empty'), 0, 'dropped');
is(ctl('pool', 'stat', 'empty'), 1, 'gone at once');

# housekeeping goes on until it is done: 2000 identities that need no rest

$p->pool('many', 2000);
is(ctl('pool', 'drop', 'many', '--all'), 0, 'drop a pool of 2000');
ok(wait_for(sub { ctl('pool', 'stat', 'many') == 1 }), 'gone soon');
is(faults(), 0, 'check');

# hash keys

$p->pool('keys', 2);
$lease = acquire('keys', 'alice')->{lease};
is(json('key', 'rotate')->{key}, 2, 'key rotate');
is(ctl('key', 'drop', 1), 1, 'key drop: a live lease');
like($err, qr/\(BUSY\)/, 'says so');
is(acquire('keys', 'alice')->{lease}, $lease, 'the same lease');
is_deeply([map { "$_->{key} $_->{state}" } @{json('key', 'list')}],
	['2 current', '1 old'], 'key list');
is(ctl('key', 'drop', 2), 1, 'key drop: the current one');
is(ctl('key', 'drop', 3), 1, 'key drop: no such');
is(ctl('key', 'drop', 1), 0, 'key drop');
is(acquire('keys', 'alice')->{lease}, $lease, 'still the same lease');
is(faults(), 0, 'check');

like($p->log(), qr/pool many is dropped/, 'log');
unlike($p->log(), qr/\b(alice|bob|carol)\b/, 'no user in it');

done_testing();

###############################################################################
