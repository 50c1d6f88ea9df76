#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: commands of one lease that arrive together, in one batch or in
# several, and commands that come when it is over.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use Time::HiRes qw/ time sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my ($p, $g, $h, @r);

$p = ImsPool->new();
$p->pool('web', 20, 'TTL', 300);
$p->pool('brief', 1, 'TTL', 2, 'D', 1, 'MARGIN', 1);

# revoked and renewed in one write: the later one sees the earlier one

$g = acquire('alice');
@r = together(['REVOKE', 'LEASE', $g->{lease}],
	[$p->renew('web', 'alice', $g->{lease})],
	[$p->acquire('web', 'alice')],
	[$p->renew('web', 'alice', $g->{lease})],
	['SHOW', 'LEASE', $g->{lease}]);
is($r[0], 1, 'revoke');
like($r[1], qr/^-ENDED/, 'renew behind it');
$h = $p->hash($r[2]);
is("$h->{state} $h->{impi}", "returned $g->{impi}", 'acquire: a new lease');
isnt($h->{lease}, $g->{lease}, 'of another id');
like($r[3], qr/^-ENDED/, 'renew of the old one');
is(state($g->{lease}), 'none', 'the old one is over');
is(state($h->{lease}), 'leased', 'the new one is not');

# the other way round: renewed for nothing

$g = $h;
@r = together([$p->renew('web', 'alice', $g->{lease})],
	['REVOKE', 'LEASE', $g->{lease}]);
is(ref $r[0], 'ARRAY', 'renew');
is($r[1], 1, 'revoke behind it');
isnt(state($g->{lease}), 'leased', 'ended');
cmp_ok(rest($g->{lease}), '>=', $p->hash($r[0])->{end},
	'and rests by what was promised last');

# released and renewed; released twice

$g = acquire('bob');
@r = together([$p->release('web', 'bob', $g->{lease})],
	[$p->renew('web', 'bob', $g->{lease})],
	[$p->release('web', 'bob', $g->{lease})]);
is($p->hash($r[0])->{ended}, 1, 'release');
like($r[1], qr/^-ENDED/, 'renew behind it');
like($r[2], qr/^-ENDED/, 'release behind it');

# barred in the batch in which he asks

$g = acquire('carol');
@r = together(['REVOKE', 'USER', 'web', 'site', 'carol', 'BAR'],
	[$p->acquire('web', 'carol')], [$p->acquire('web', 'carol')]);
$h = $p->hash($r[1]);
is($h->{state}, 'new', 'barred: another identity');
isnt($h->{impi}, $g->{impi}, 'not the old one');
is($p->hash($r[2])->{lease}, $h->{lease}, 'the same for the next command');

# a whole pool behind its fence

$g = acquire('dave');
@r = together(['REVOKE', 'POOL', 'web'], [$p->renew('web', 'dave', $g->{lease})],
	[$p->acquire('web', 'dave')]);
is($r[0], '+OK', 'revoke pool');
like($r[1], qr/^-ENDED/, 'renew behind it');
is($p->hash($r[2])->{state}, 'returned', 'acquire: beyond the fence');

# two connections at once: whatever the order, one lease is the living one

my ($bad, $n) = (0, 0);

for (1 .. 100) {
	$g = acquire('erin');

	my ($c1, $c2) = map { $p->connect() } 1 .. 2;
	$c1->send($p->renew('web', 'erin', $g->{lease}));
	$c2->send('REVOKE', 'LEASE', $g->{lease});
	my ($r1, $r2) = ($c1->recv(), $c2->recv());

	$n++;
	$bad++ unless (ref $r1 || $r1 =~ /^-ENDED/) && $r2 eq 1
		&& state($g->{lease}) ne 'leased';
}

is($bad, 0, "$n times renewed and revoked at once");

# renewed after its end: ended is final, and acquire makes another one

$g = $p->hash($p->cmd($p->acquire('brief', 'alice')));
ok(wait_for(sub { state($g->{lease}) ne 'leased' }), 'run out');
like($p->cmd($p->renew('brief', 'alice', $g->{lease})), qr/^-ENDED/, 'renew');
like($p->cmd($p->release('brief', 'alice', $g->{lease})), qr/^-ENDED/,
	'release');
like($p->cmd('REVOKE', 'LEASE', $g->{lease}), qr/^-ENDED/, 'revoke');
$h = $p->hash($p->cmd($p->acquire('brief', 'alice')));
is("$h->{state} $h->{impi}", "returned $g->{impi}", 'acquire');
isnt($h->{lease}, $g->{lease}, 'another lease');
like($p->cmd($p->renew('brief', 'alice', $g->{lease})), qr/^-ENDED/,
	'renew of the old one');

is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');

done_testing();

###############################################################################

sub acquire {
	my ($user) = @_;

	return $p->hash($p->cmd($p->acquire('web', $user)));
}


# commands in one write, their replies

sub together {
	my (@cmds) = @_;

	my $c = $p->connect();
	$c->raw(join '', map { $c->encode(@$_) } @cmds);

	return map { $c->recv() } @cmds;
}


sub state {
	my ($lease) = @_;

	return $p->hash($p->cmd('SHOW', 'LEASE', $lease))->{state} // 'none';
}


sub rest {
	my ($lease) = @_;

	return $p->hash($p->cmd('SHOW', 'LEASE', $lease))->{rest} // 0;
}


sub wait_for {
	my ($cb) = @_;

	my $end = time() + 20;

	while (time() < $end) {
		return 1 if $cb->();
		sleep 0.1;
	}

	return 0;
}

###############################################################################
