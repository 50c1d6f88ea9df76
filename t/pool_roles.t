#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: roles, secrets, and users of the machine.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use POSIX;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my ($p, $c, $r, $h, $status, $log);

# default secrets

$p = ImsPool->new();
$p->pool('web', 10);

my %lease = (
	ACQUIRE => [$p->acquire('web', 'a')],
	RENEW => [$p->renew('web', 'a', '0000000100000001-0000010000000001')],
	RELEASE => [$p->release('web', 'a', '0000000100000001-0000010000000001')],
);

my %admin = (
	'POOL CREATE' => ['POOL', 'CREATE', 'x', 'ims.example'],
	'POOL ALTER' => ['POOL', 'ALTER', 'web', 'TTL', '60'],
	'POOL DISABLE' => ['POOL', 'DISABLE', 'web'],
	'POOL ENABLE' => ['POOL', 'ENABLE', 'web'],
	'POOL DROP' => ['POOL', 'DROP', 'web', 'ALL'],
	'IDENTITY ADD' => ['IDENTITY', 'ADD', 'web', 0, 'i@x', '', 'sip:i@x'],
	'IDENTITY DISABLE' => ['IDENTITY', 'DISABLE', 'web-0001@ims.example'],
	'IDENTITY ENABLE' => ['IDENTITY', 'ENABLE', 'web-0001@ims.example'],
	'IDENTITY REMOVE' => ['IDENTITY', 'REMOVE', 'web-0001@ims.example'],
	'POOL LIST' => ['POOL', 'LIST'],
	'POOL STAT' => ['POOL', 'STAT', 'web'],
	'IDENTITY LIST' => ['IDENTITY', 'LIST', '*', '*', 0],
	'EXPORT' => ['EXPORT', 'web', 0],
	'IMPORT LOOK' => ['IMPORT', 'LOOK', 'web', 1, ''],
	'IMPORT BEGIN' => ['IMPORT', 'BEGIN', 'web'],
	'IMPORT ROWS' => ['IMPORT', 'ROWS', 1, 1, ''],
	'IMPORT END' => ['IMPORT', 'END', 1],
	'IMPORT ABORT' => ['IMPORT', 'ABORT', 1],
	'SHOW LEASE' => ['SHOW', 'LEASE', '0000000100000001-0000010000000001'],
	'SHOW IMPU' => ['SHOW', 'IMPU', 'sip:web-0001@ims.example'],
	'SHOW IMPI' => ['SHOW', 'IMPI', 'web-0001@ims.example'],
	'SHOW USER' => ['SHOW', 'USER', 'web', 'site', 'a'],
	'LIST' => ['LIST', '*', '*', 0],
	'REVOKE LEASE' => ['REVOKE', 'LEASE', '0000000100000001-0000010000000001'],
	'REVOKE IMPU' => ['REVOKE', 'IMPU', 'sip:web-0001@ims.example'],
	'REVOKE USER' => ['REVOKE', 'USER', 'web', 'site', 'a'],
	'REVOKE POOL' => ['REVOKE', 'POOL', 'web'],
	'KEY ROTATE' => ['KEY', 'ROTATE'],
	'KEY LIST' => ['KEY', 'LIST'],
	'KEY DROP' => ['KEY', 'DROP', 1],
	'HISTORY NAME' => ['HISTORY', 'NAME', 'sip:web-0001@ims.example', '-', '-', 0],
	'HISTORY LEASE' => ['HISTORY', 'LEASE', '0000000100000001-0000010000000001'],
	'HISTORY USER' => ['HISTORY', 'USER', 'site', 'a', '-', '-', 0],
	'HOLD' => ['HOLD', 'END'],
	'CHECK' => ['CHECK'],
);

my @report = ('REPORT', '0000000100000001-0000010000000001', 1, 1, 1);

$c = $p->connect();
is($p->hash($c->cmd('HELLO'))->{role}, 'admin', 'role of our own uid');
is($c->cmd('AUTH', $p->secret('wwsf')), '+OK', 'auth as wwsf');
is($p->hash($c->cmd('HELLO'))->{role}, 'wwsf', 'that role only');
is(ref $c->cmd(@{$lease{ACQUIRE}}), 'ARRAY', 'wwsf acquires');
like($c->cmd(@report), qr/^-DENIED/, 'wwsf does not report');
like($c->cmd($p->acquire('web', 'b', undef, deadline => 0)), qr/^-LATE/,
	'wwsf needs a deadline');
for my $name (sort keys %admin) {
	like($c->cmd(@{$admin{$name}}), qr/^-DENIED/, "wwsf: no $name");
}

$c = $p->connect();
is($c->cmd('AUTH', $p->secret('edge')), '+OK', 'auth as edge');
is($c->cmd(@report), '+OK', 'edge reports');
for my $name (sort keys %lease) {
	like($c->cmd(@{$lease{$name}}), qr/^-DENIED/, "edge: no $name");
}
for my $name (sort keys %admin) {
	like($c->cmd(@{$admin{$name}}), qr/^-DENIED/, "edge: no $name");
}

# wrong secrets

$c = $p->connect();
for my $secret ('', 'x' x 10, substr($p->secret('wwsf'), 0, -1) . '*') {
	like($c->cmd('AUTH', $secret), qr/^-WRONGPASS/, 'wrong secret');
}
ok($c->closed(), 'closed after three');

$c = $p->connect();
like($c->cmd('AUTH', 'x' x 60000), qr/^-WRONGPASS/, 'huge secret');
like($c->cmd('AUTH', $p->secret('edge') . "\n"), qr/^-WRONGPASS/,
	'secret and LF');
is($c->cmd('AUTH', $p->secret('edge')), '+OK', 'the third is right');
unlike($p->log(), qr/@{[quotemeta $p->secret('edge')]}/, 'never logged');

# files

sub mode { return sprintf '%04o', (stat $_[0])[2] & 07777; }

is(mode($p->dir() . '/secrets/wwsf.secret'), '0600', 'mode of a secret');
is(mode($p->dir() . '/secrets'), '0700', 'mode of their directory');
is(mode($p->dir()), '0750', 'mode of the directory');
is(mode($p->socket()), '0660', 'mode of the socket');
is(mode($p->dir() . '/env.1/data.mdb'), '0640', 'mode of the data');
is(mode($p->dir() . '/env.1/lock.mdb'), '0660', 'mode of the lock');

my $old = $p->secret('wwsf');
$p->stop();
$p->start();
is($p->secret('wwsf'), $old, 'secrets stay');

# secrets with pools and realms

my $file = $p->tmp() . '/my.secret';

sub secrets {
	my ($text, $mode) = @_;

	open my $f, '>', $file or die $!;
	print $f $text;
	close $f;
	chmod $mode || 0600, $file;
}

$p->pool('two', 10);
$p->stop();
secrets("# comment\n\nwwsf aaaaaaaaaaaaaaaa web,x site,y\n"
	. "wwsf bbbbbbbbbbbbbbbb * y\nedge cccccccccccccccc\n");
$p->start('--secrets', $file);

$c = $p->connect();
is($c->cmd('AUTH', 'a' x 16), '+OK', 'secret of one pool');
is(ref $c->cmd($p->acquire('web', 'a')), 'ARRAY', 'in its pool and realm');
is(ref $c->cmd($p->acquire('web', 'a', undef, realm => 'y')), 'ARRAY',
	'in its other realm');
like($c->cmd($p->acquire('two', 'a')), qr/^-DENIED/, 'in another pool');
like($c->cmd($p->acquire('nix', 'a')), qr/^-DENIED/,
	'in a pool that is not there');
like($c->cmd($p->acquire('web', 'a', undef, realm => 'sit')), qr/^-DENIED/,
	'in a realm with the same beginning');
like($c->cmd($p->acquire('web', 'a', undef, realm => 'site,y')),
	qr/^-DENIED/, 'in a realm with a comma');
like($c->cmd($p->renew('two', 'a', '0000000100000001-0000010000000001')),
	qr/^-DENIED/, 'renew in another pool');
like($c->cmd($p->release('two', 'a', '0000000100000001-0000010000000001')),
	qr/^-DENIED/, 'release in another pool');

$c = $p->connect();
is($c->cmd('AUTH', 'b' x 16), '+OK', 'secret of all pools, one realm');
is(ref $c->cmd($p->acquire('two', 'a', undef, realm => 'y')), 'ARRAY',
	'any pool');
like($c->cmd($p->acquire('two', 'a')), qr/^-DENIED/, 'another realm');
like($c->cmd('AUTH', $old), qr/^-WRONGPASS/, 'default secrets do not count');
$p->stop();

for my $t (
	['readable by others', "wwsf aaaaaaaaaaaaaaaa\n", 0640, qr/chmod 0600/],
	['short', "wwsf aaaaaaaaaaaaaaa\n", 0600, qr/line 1: .*16/],
	['no secret', "#\nwwsf\n", 0600, qr/line 2: not "role/],
	['no role', "admin aaaaaaaaaaaaaaaa\n", 0600, qr/line 1: the role/],
	['five words', "wwsf aaaaaaaaaaaaaaaa a b c\n", 0600, qr/line 1: not/])
{
	secrets($t->[1], $t->[2]);
	($status, $log) = $p->refused('--secrets', $file);
	is($status, 1, "secrets $t->[0]: not started");
	like($log, $t->[3], "secrets $t->[0]: says why");
	unlike($log, qr/aaaaaaaaa/, "secrets $t->[0]: not told");
}

($status, $log) = $p->refused('--secrets', $p->tmp() . '/nix');
is($status, 1, 'secrets that are not there');
undef $p;

# other users of the machine

SKIP: {
	skip 'not root', 1 if $> != 0;

	my ($uid, $gid) = (getpwnam('nobody'))[2, 3];
	skip 'no user nobody', 1 unless defined $uid;

	# a command as nobody
	my $nobody = sub {
		my ($do) = @_;

		pipe my $in, my $out;
		my $pid = fork();

		if ($pid == 0) {
			$) = "$gid $gid";
			$( = $gid;
			POSIX::setuid($uid);
			my $text = eval { $do->() } // '(undef)';
			syswrite $out, $text;
			POSIX::_exit(0);
		}

		close $out;
		waitpid($pid, 0);
		local $/;
		return scalar <$in>;
	};

	# outside of the group
	$p = ImsPool->new();
	is($nobody->(sub { $p->connect() ? 'yes' : "$!" }), 'Permission denied',
		'another uid does not get in');
	$p->stop();

	# in the group, as PHP is beside nginx
	my $group = getgrgid($gid);
	$p = ImsPool->new(args => ['--group', $group]);
	$p->pool('web', 10);

	is((stat $p->socket())[5], $gid, 'group of the socket');
	is((stat $p->dir() . '/env.1/data.mdb')[5], $gid, 'group of the data');

	is($nobody->(sub { $p->connect()->cmd('PING') }), '+PONG',
		'in the group: ping');
	like($nobody->(sub { $p->connect()->cmd('INFO') }), qr/incarnation/,
		'in the group: info');

	for my $name (sort keys %admin) {
		like($nobody->(sub { $p->connect()->cmd(@{$admin{$name}}) }),
			qr/^-NOAUTH/, "without a secret: no $name");
	}
	for my $name (sort keys %lease) {
		like($nobody->(sub { $p->connect()->cmd(@{$lease{$name}}) }),
			qr/^-NOAUTH/, "without a secret: no $name");
	}
	like($nobody->(sub { $p->connect()->cmd(@report) }), qr/^-NOAUTH/,
		'without a secret: no REPORT');

	my $secret = $p->secret('wwsf');
	is($nobody->(sub {
		my $s = $p->connect();
		$s->cmd('AUTH', $secret) . ' '
			. $p->hash($s->cmd($p->acquire('web', 'n')))->{state};
	}), '+OK new', 'with a secret: acquires');
	is($nobody->(sub { open(my $f, '<', $p->dir() . '/secrets/wwsf.secret')
		? 'yes' : "$!" }), 'Permission denied', 'secrets are not readable');
	is($nobody->(sub { open(my $f, '<', $p->dir() . '/env.1/data.mdb')
		? 'yes' : "$!" }), 'yes', 'data is readable');
	is($nobody->(sub { open(my $f, '+<', $p->dir() . '/env.1/data.mdb')
		? 'yes' : "$!" }), 'Permission denied', 'data is not writable');
	$p->stop();

	# started by root, run as somebody else
	$p = ImsPool->new(idle => 1,
		args => ['--user', 'nobody', '--group', $group]);
	chmod 0777, $p->tmp();
	$p->start();

	open my $f, '<', "/proc/" . $p->pid() . "/status" or die $!;
	my ($uids) = grep { /^Uid:/ } <$f>;
	is($uids, "Uid:\t$uid\t$uid\t$uid\t$uid\n", 'runs as nobody');

	is((stat $p->dir())[4], $uid, 'owns its directory');
	is((stat $p->dir() . '/secrets/wwsf.secret')[4], $uid,
		'owns the secrets');
	$p->pool('web', 10);
	is(ref $p->cmd($p->acquire('web', 'r')), 'ARRAY', 'root is an admin');
	is($nobody->(sub { ref $p->connect()->cmd('POOL', 'LIST') }), 'ARRAY',
		'and so is its own uid');
	is($p->stop('KILL'), 9, 'killed');
	$p->start();
	is(ref $p->cmd($p->acquire('web', 'r')), 'ARRAY', 'and started again');
	$p->stop();

	# a directory of somebody else's is not taken over
	$p = ImsPool->new(idle => 1,
		args => ['--user', 'nobody', '--group', $group]);
	mkdir $p->dir(), 0700;
	open $f, '>', $p->dir() . '/precious';
	close $f;
	($status, $log) = $p->refused();
	is($status, 1, 'directory of somebody else');
	is((stat $p->dir())[4], 0, 'owner is as it was');
	is(mode($p->dir()), '0700', 'mode is as it was');

	($status, $log) = $p->refused('--user', 'no-such-user');
	is($status, 1, 'no such user');
	like($log, qr/no user "no-such-user"/, 'says so');

	($status, $log) = $p->refused('--group', 'no-such-group');
	is($status, 1, 'no such group');
	like($log, qr/no group "no-such-group"/, 'says so');
}

done_testing();

###############################################################################
