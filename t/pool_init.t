#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: a new directory, one beside a floor, numbers that are new and
# numbers that were in use elsewhere; a hold that passes.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use POSIX ();
use Time::HiRes qw/ sleep time /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $p = ImsPool->new(idle => 1);
my ($r, $out);

sub once {
	my (@args) = @_;

	my @user = $> == 0 ? ('--user', 'root') : ();
	my $file = $p->tmp() . '/once';
	my $pid = fork() // die;

	if ($pid == 0) {
		open STDOUT, '>', $file;
		open STDERR, '>&', \*STDOUT;
		exec $p->mgr(), '--dir', $p->dir(), '--volatile', @user, @args
			or POSIX::_exit(127);
	}

	waitpid $pid, 0;
	my $status = $? >> 8;
	open my $f, '<', $file or die;
	local $/;
	$out = <$f> // '';

	return $status;
}

sub info { return $p->cmd('INFO') =~ /^$_[0]:(\S+)\r$/m ? $1 : undef; }
sub acquire { return $p->hash($p->cmd($p->acquire(@_))); }
sub forget { system('rm', '-rf', glob $p->dir() . '/{env.*,current}'); }

# made, and nothing else

is(once('--init'), 0, '--init');
like($out, qr/made, incarnation 1$/m, 'said');
unlike($out, qr/nothing is given/, 'no hold');
ok(-l $p->dir() . '/current', 'there it is');
is(once('--init'), 1, 'once only');
like($out, qr/has an environment already/, 'said');
is(once('--init', '--never-used'), 1, 'never-used or not');

$p->start();
is(info('incarnation'), 2, 'a start is a start');
$p->pool('web', 3, 'TTL', 2, 'TTLMAX', 2, 'D', 1, 'MARGIN', 1, 'MINEXPIRES', 1);
my $first = acquire('web', 'alice')->{lease};
ok($first, 'a lease');
$p->stop();

# the same numbers once more, beside the floor: on hold for the longest term

forget();
is(once('--init'), 0, '--init beside a floor');
like($out, qr/was a pool here before: nothing is given for the next [34] /,
	'says what that means');
$p->start();
$p->pool('web', 3, 'TTL', 2, 'TTLMAX', 2, 'D', 1, 'MARGIN', 1, 'MINEXPIRES', 1);
like($p->cmd($p->acquire('web', 'alice')), qr/^-HOLD [1-4]$/, 'on hold');

my $begin = time();
my @told;

for (1 .. 400) {
	$r = $p->cmd($p->acquire('web', 'alice'));
	last if ref $r;
	push @told, $r =~ /^-HOLD (\d+)$/ ? $1 : 'what';
	sleep 0.02;
}
is_deeply([grep { !/^[1-4]$/ } @told], [], 'seconds until it ends');
is_deeply(\@told, [sort { $b <=> $a } @told], 'ever fewer');
ok(ref $r, 'then given');
cmp_ok(time() - $begin, '<', 8, 'as told');
isnt($p->hash($r)->{lease}, $first, 'no lease id comes twice');
$p->stop();

# numbers that are new

forget();
is(once('--init', '--never-used'), 0, '--init --never-used');
unlike($out, qr/nothing is given/, 'no hold');
$p->start();
cmp_ok(info('incarnation'), '>', 4, 'the floor still counts');
is(info('hold_seconds'), 0, 'no hold');
$p->pool('web', 3, 'TTL', 2, 'D', 1, 'MARGIN', 1, 'MINEXPIRES', 1);
ok(acquire('web', 'alice')->{lease}, 'given at once');
$p->stop();

# of a first start, too

forget();
$p->start('--never-used');
is(info('hold_seconds'), 0, 'ims-poolmgr --never-used');
$p->stop();
$p->start('--never-used');
is(info('hold_seconds'), 0, 'means nothing later');
$p->stop();
unlink $p->dir() . '/floor';
$p->start('--never-used');
is(info('hold_seconds'), 0, 'nothing was ever given here');

# but where leases were given it is not believed

$p->pool('web', 3, 'TTL', 2, 'D', 1, 'MARGIN', 1, 'MINEXPIRES', 1);
acquire('web', 'alice');
$p->stop();
unlink $p->dir() . '/floor';
$p->start('--never-used');
cmp_ok(info('hold_seconds'), '>', 0, 'a floor is missed: on hold');
$p->stop();

is(once('--restore', '/x', '--never-used'), 2, 'not with --restore');

# numbers that were in use elsewhere

forget();
$p->start('--never-used');
$p->pool('old', 0, 'TTL', 2, 'D', 1, 'MARGIN', 1, 'MINEXPIRES', 1);

is(($p->run_ctl('import', 'old', '--range', 'sip:n-[1-3]@ims.example',
	'--rest', 3))[0], 0, 'import --rest');
like($p->cmd($p->acquire('old', 'alice')), qr/^-EXHAUSTED [1-3]$/,
	'rests first');
is(($p->run_ctl('identity', 'add', 'old', 'm@ims.example', '--impu',
	'sip:m@ims.example', '--rest', 300))[0], 0, 'identity add --rest');

$begin = time();
for (1 .. 400) {
	$r = $p->cmd($p->acquire('old', 'alice'));
	last if ref $r;
	sleep 0.02;
}
ok(ref $r, 'then given');
cmp_ok(time() - $begin, '>', 1, 'not before');
is(scalar(grep { ref $p->cmd($p->acquire('old', $_)) } qw/ b c /), 2,
	'each of them');
like($p->cmd($p->acquire('old', 'd')), qr/^-EXHAUSTED [1-4]$/,
	'but not the one that rests longer');
is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');

done_testing();

###############################################################################
