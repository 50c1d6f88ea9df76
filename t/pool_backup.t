#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: backup while leases are given, and without a pool manager.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use JSON::PP;
use POSIX qw/ :sys_wait_h /;
use Time::HiRes qw/ sleep time /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant SIZE => 20000;

###############################################################################

my $p = ImsPool->new();
my ($r, $h, $status, $out, $err);

sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }
sub acquire { return $h = $p->hash($p->cmd($p->acquire(@_))); }
sub info { return $p->cmd('INFO') =~ /^$_[0]:(\S+)\r$/m ? $1 : undef; }

$p->pool('web', SIZE, 'TTL', 600, 'D', 1, 'MARGIN', 1);
my %told = map { $_ => acquire('web', $_)->{lease} } 'a' .. 'h';

# arguments, roles

my $edge = $p->connect();
$edge->cmd('AUTH', $p->secret('edge'));
like($edge->cmd($_, '/x'), qr/^-DENIED/, "not for an edge: $_")
	for qw/ BACKUP RESTORE /;
like($edge->cmd('COMPACT'), qr/^-DENIED/, 'nor this');
like($p->cmd('BACKUP', $_), qr/^-BADARG a path/, "no path: $_")
	for '', 'x', "/x\0y", '/' . 'x' x 5000;

is(ctl('backup', '/nonexistent/x'), 1, 'no such directory');
like($err, qr/copy failed: No such file or directory \(FAILED\)/, 'said so');
like($p->log(), qr{\[error\].*backup failed: "/nonexistent/x}, 'where: logged');

# a file

my $file = $p->tmp() . '/one.mdb';

is(ctl('backup', $file, '--json'), 0, 'backup');
$r = decode_json($out);
is($r->{file}, $file, 'its name');
is($r->{bytes}, -s $file, 'its size');
cmp_ok($r->{rows}, '>=', SIZE * 4, 'all rows were looked at');
is((stat $file)[2] & 07777, 0600, 'for the daemon only');

# a directory; a name that is taken is replaced, whole

mkdir $p->tmp() . '/many';
is(ctl('backup', $p->tmp() . '/many', '--json'), 0, 'into a directory');
like(decode_json($out)->{file},
	qr{/many/pool-\d{8}T\d{6}Z\.mdb$}, 'named by the time');
is(ctl('backup', $file), 0, 'over an old one');

# while it runs: leases are given, one copy at a time. The process that reads
# is stopped, so that it takes as long as is needed here

my $c = $p->connect();
my $child = reading($c, $file);
ok($child, 'a process of its own');

my $before = time();
ok(acquire('web', "while$_")->{lease}, 'a lease meanwhile') for 1 .. 3;
cmp_ok(time() - $before, '<', 5, 'at once');
is(info('copy'), 'backup', 'INFO tells');
like($p->cmd('BACKUP', "$file.2"), qr/^-BUSY another copy/, 'one at a time');
like($p->cmd('COMPACT'), qr/^-BUSY another copy/, 'not this either');
like($p->cmd('RESTORE', $file), qr/^-BUSY another copy/, 'nor that');

$c->send('PING', 'after');
kill 'CONT', $child;
is(ref($r = $c->recv(60)), 'ARRAY', 'its answer');
is($p->hash($r)->{file}, $file, 'in order');
is($c->recv(), 'after', 'then the next one\'s');
is(info('copy'), 'none', 'over');

# killed: the old one stays as it was, and nothing else is left

my $size = -s $file;
my $ino = (stat $file)[1];

$child = reading($c, $file);
kill 'KILL', $child;
like($c->recv(60), qr/^-FAILED/, 'killed: failed');
is((stat $file)[1], $ino, 'the older one is still there');
is_deeply([glob "$file.*"], [], 'no half one');

# who asked goes away: it is made all the same

$child = reading($c, $file);
undef $c;
ok(acquire('web', 'gone')->{lease}, 'served');
kill 'CONT', $child;
ok(wait_for(sub { info('copy') eq 'none' }), 'comes to its end');
isnt((stat $file)[1], $ino, 'and there it is');

# an import that is not finished

my $imp = $p->connect();
my $no = $imp->cmd('IMPORT', 'BEGIN', 'web');
like($p->cmd($_->[0], @$_[1 .. $#$_]), qr/^-BUSY an import/,
	"$_->[0] while an import is under way")
	for ['BACKUP', $file], ['COMPACT'], ['RESTORE', $file];
is($imp->cmd('IMPORT', 'ABORT', $no), 0, 'aborted');

# the daemon stops in the middle of it

$c = $p->connect();
$child = reading($c, $file);
$before = time();
is($p->stop(), 0, 'stops');
cmp_ok(time() - $before, '<', 10, 'does not wait for it');
is_deeply([glob "$file.*"], [], 'no half one');

# without a daemon

my $mgr = $p->mgr();
is(system("$mgr --dir " . $p->dir() . " --backup $file.off"
	. " >$file.out 2>&1"), 0, 'ims-poolmgr --backup');
like(text("$file.out"), qr/^bytes \d+ rows \d+$/, 'says how much');
is(system("$mgr --dir " . $p->dir() . " --backup /nonexistent/x"
	. " >$file.out 2>&1") >> 8, 1, 'no such directory');
like(text("$file.out"), qr/nonexistent.*No such file/, 'says so');
is(system("$mgr --dir /nonexistent --backup $file.no"
	. " >$file.out 2>&1") >> 8, 1, 'no such pool');
ok(!-e "$file.no", 'no file');

is(system("$mgr --dir x --backup y --restore z >/dev/null 2>&1") >> 8, 2,
	'one thing at a time');

# beside a running one, too

$p->start();
is(system("$mgr --dir " . $p->dir() . " --backup $file.on >/dev/null"), 0,
	'beside a daemon');

# what is in it: everything that was told, in another directory

my $q = ImsPool->new(idle => 1);
system('mkdir', $q->dir());
system('cp', $p->dir() . '/keys', $q->dir() . '/keys');
is(system("$mgr --volatile " . ($> == 0 ? '--user root ' : '') . '--dir '
	. $q->dir() . " --restore $file.on >$file.out 2>&1"), 0, 'restored');
$q->start();
like($q->log(), qr/\[alert\].*all leases are ended/, 'all leases are ended');

for my $user (sort keys %told) {
	my @r = $q->run_ctl('show', 'user', 'web', $user, '--realm', 'site',
		'--json');
	my $lease = eval { decode_json($r[1])->{lease} };
	is($lease, $told{$user}, "$user is in it");
}
is(($q->run_ctl('check'))[0], 0, 'it is whole');

done_testing();

###############################################################################

# asks for a backup, and stops the process that makes it

sub reading {
	my ($c, $file) = @_;

	my $pid = $p->pid();

	$c->send('BACKUP', $file);

	return wait_for(sub {
		my $child = (split ' ', text("/proc/$pid/task/$pid/children"))[0]
			or return;

		# once it is itself, and has begun to write

		return unless -e "$file.$child.new";

		kill 'STOP', $child;
		return wait_for(sub {
			text("/proc/$child/stat") =~ /^\d+ \(.*\) T/
		}) && -e "$file.$child.new" && $child;
	}, 0.001);
}


sub wait_for {
	my ($check, $step) = @_;

	my $end = time() + 20;

	while (time() < $end) {
		my $r = $check->();
		return $r if $r;
		sleep($step // 0.02);
	}

	return;
}


sub text {
	my ($path) = @_;

	open my $f, '<', $path or return '';
	local $/;

	return scalar(<$f>) // '';
}

###############################################################################
