#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: killed, doubled, misplaced, on a dying disk.
#
# IMS_CRASH_ROUNDS: how often it is killed under load, at a random instant; 30
# if it is not set, by hand 300.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use IO::Socket::UNIX;
use POSIX;
use Time::HiRes qw/ sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant ROUNDS => $ENV{IMS_CRASH_ROUNDS} || 30;
use constant CLIENTS => 4;
use constant USERS => 40;

###############################################################################

my ($p, $q, $r, $h, $status, $log);

# so few that they are on their way to the records at any time
$p = ImsPool->new(args => ['--renewals', 50]);
$p->pool('web', 1000);

# kill -9 under load: what was acknowledged is there, once

# Acquires, renews and releases at random until the daemon is gone; then tells
# for each user what the daemon must know: the lease and the earliest end of
# it, nothing, or (for the command without an answer) either.

sub client {
	my ($p, $k, $state, $out) = @_;

	srand($k * 1000 + $$);
	my $c = $p->connect();

	while ($c) {
		my $user = "u$k-" . int rand USERS;
		my $s = $state->{$user} ||= {};
		my $dice = rand;
		my @cmd = !$s->{lease} || $dice < 0.3 ? $p->acquire('web', $user)
			: $dice < 0.7 ? $p->renew('web', $user, $s->{lease})
			: $p->release('web', $user, $s->{lease});

		my $before = { %$s };
		$s->{doubt} = $cmd[0];
		my $r = $c->cmd(@cmd);
		last unless defined $r;
		delete $s->{doubt};

		if (!ref $r) {
			$s->{wrong} = "$cmd[0]: $r";
			last;
		}

		my $h = $p->hash($r);

		if ($cmd[0] eq 'RELEASE') {
			%$s = (released => $s->{lease});

		} else {
			$s->{wrong} = 'lease changed'
				if $s->{lease} && $s->{lease} ne $h->{lease};
			@$s{qw/ lease end impi /} = @$h{qw/ lease end impi /};
			delete $s->{released};
		}
	}

	for my $user (sort keys %$state) {
		my $s = $state->{$user};
		print $out join("\t", $user, map { $s->{$_} // '' }
			qw/ lease end doubt released wrong /), "\n";
	}
}

my %state;
my ($acked, $wrong) = (0, 0);

for my $round (1 .. ROUNDS) {
	my @in;

	for my $k (1 .. CLIENTS) {
		pipe my $in, my $out;
		my $pid = fork();

		if ($pid == 0) {
			close $in;
			client($p, $k, $state{$k} ||= {}, $out);
			close $out;
			POSIX::_exit(0);
		}

		push @in, [$k, $in, $pid];
	}

	sleep 0.05 + rand 0.15;
	is($p->stop('KILL'), 9, "round $round: killed");

	for (@in) {
		my ($k, $in, $pid) = @$_;
		$state{$k} = {};

		while (my $line = <$in>) {
			chomp $line;
			my ($user, @v) = split /\t/, $line, -1;
			@{$state{$k}{$user}}{qw/ lease end doubt released wrong /} = @v;
		}

		waitpid $pid, 0;
	}

	$p->start();

	my (%held, @faults);

	for my $k (1 .. CLIENTS) {
		for my $user (keys %{$state{$k}}) {
			my $s = $state{$k}{$user};
			push @faults, "$user: $s->{wrong}" if $s->{wrong};

			$h = $p->hash($p->cmd('SHOW', 'USER', 'web', 'site', $user));
			my $live = !$h->{error} && $h->{state} eq 'leased';

			if ($live) {
				push @faults, "$user: $h->{impi} is $held{$h->{impi}}'s"
					if $held{$h->{impi}}++;
			}

			if ($s->{lease}) {
				$acked++;

				# released without an answer: may be gone, must not be other
				if (!$live && $s->{doubt} ne 'RELEASE') {
					push @faults, "$user: lost $s->{lease}";
				}
				if ($live && $h->{lease} ne $s->{lease}) {
					push @faults, "$user: $h->{lease}, not $s->{lease}";
				}
				if ($live && $h->{end} < $s->{end}) {
					push @faults, "$user: ends earlier";
				}

			} elsif ($s->{released}) {
				$acked++;
				if ($live && ($s->{doubt} ne 'ACQUIRE'
					|| $h->{lease} eq $s->{released}))
				{
					push @faults, "$user: $s->{released} lives again";
				}
			}

			# what is so now is the truth of the next round
			%$s = $live ? map { $_ => $h->{$_} } qw/ lease end / : ();
		}
	}

	is_deeply(\@faults, [], "round $round: nothing lost, nothing doubled");
	is($p->hash($p->cmd('CHECK'))->{faults}, 0, "round $round: check");
}

cmp_ok($acked, '>', ROUNDS * CLIENTS, "acknowledged states compared: $acked");
like($p->cmd('INFO'), qr/^incarnation:@{[ROUNDS + 1]}\r$/m, 'incarnations');

# an import killed in its middle

my $c = $p->connect();
my $no = $c->cmd('IMPORT', 'BEGIN', 'web');
my $rows = join '', map { "i$_\@ims.example\t\tsip:i$_\@ims.example\n" } 1 .. 900;
is($c->cmd('IMPORT', 'ROWS', $no, 1, $rows), 900, 'rows');
like($p->cmd('SHOW', 'IMPI', 'i7@ims.example')->[5], qr/off/,
	'staged: not to be leased');
$p->stop('KILL');
$p->start();
like($p->log(), qr/unfinished import/, 'told at the start');
like($p->cmd('SHOW', 'IMPI', 'i7@ims.example'), qr/^-NOTFOUND/, 'taken out');
is($p->hash($p->cmd('POOL', 'STAT', 'web'))->{total}, 1000, 'the old ones stay');
is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');
$no = $p->cmd('IMPORT', 'BEGIN', 'web');
is($p->cmd('IMPORT', 'ROWS', $no, 1, $rows), 900, 'again');
is($p->cmd('IMPORT', 'END', $no), 900, 'whole');

# a second daemon

($status, $log) = $p->refused('--socket', $p->tmp() . '/sock2');
is($status, 1, 'second daemon on the directory');
like($log, qr/\[emerg\]/, 'says why');
is($p->cmd('PING'), '+PONG', 'the first one does not mind');

$q = ImsPool->new(idle => 1);
($status, $log) = $q->refused('--socket', $p->socket());
is($status, 1, 'second daemon on the socket');
like($log, qr/somebody else listens/, 'says why');
is($p->connect()->cmd('PING'), '+PONG', 'the first one does not mind');

# sockets

$p->stop('KILL');
ok(-S $p->socket(), 'socket of a killed daemon');
$p->start();
is($p->cmd('PING'), '+PONG', 'is replaced');
$p->stop();

open my $f, '>', $p->socket();
close $f;
($status, $log) = $p->refused();
is($status, 1, 'a file in place of the socket');
like($log, qr/is no socket/, 'says why');
ok(-f $p->socket(), 'and is left alone');
unlink $p->socket();

($status, $log) = $p->refused('--socket', $p->tmp() . '/' . 'x' x 120);
is($status, 1, 'path of a socket too long');
like($log, qr/longer than/, 'says why');

# directories

mkdir $q->tmp() . '/foreign';
open $f, '>', $q->tmp() . '/foreign/thesis.txt';
close $f;
($status, $log) = $q->refused('--dir', $q->tmp() . '/foreign');
is($status, 1, 'directory with other things in it');
like($log, qr/\[emerg\]/, 'says why');
is_deeply([map { s{.*/}{}r } glob $q->tmp() . '/foreign/*'], ['thesis.txt'],
	'nothing was put there');

($status, $log) = $q->refused('--dir', $q->tmp() . '/no/such/parent');
is($status, 1, 'directory without a parent');

for my $args (['--nix'], ['--log-level', 'nix'], ['--map-size', 0],
	['--renewals', 0], ['--renewals', '131073'], ['arg']) {
	($status, $log) = $q->refused(@$args);
	is($status, 2, "usage: @$args");
}

SKIP: {
	my $type = `stat -f -c %T /dev/shm 2>/dev/null`;
	skip 'no tmpfs', 2 unless $type =~ /tmpfs/ && -w '/dev/shm';

	my $dir = "/dev/shm/ims-pool-test-$$";
	my $pid = fork();

	if ($pid == 0) {
		open STDERR, '>', $q->tmp() . '/log';
		exec $q->mgr(), '--dir', $dir, '--socket', $q->socket(),
			$> == 0 ? ('--user', 'root') : ()
			or POSIX::_exit(127);
	}

	waitpid $pid, 0;
	is($? >> 8, 1, 'tmpfs without --volatile');
	like($q->log(), qr/\[emerg\]/, 'says why');
	system('rm', '-rf', $dir);
}

# a disk that fails in a commit

SKIP: {
	my $so = $p->tmp() . '/fail_sync.so';
	my $flag = $p->tmp() . '/fail';

	skip 'no compiler', 6 if system('cc', '-shared', '-fPIC', '-D_GNU_SOURCE',
		'-o', $so, "$FindBin::Bin/lib/fail_sync.c") != 0;
	skip 'a sanitizer must be preloaded first', 6
		if ($ENV{IMS_BUILD} // '') =~ /asan/;

	{
		local $ENV{LD_PRELOAD} = $so;
		local $ENV{FAIL_SYNC} = $flag;
		$p->start();
	}

	$h = $p->hash($p->cmd($p->acquire('web', 'disk-1')));
	like($h->{state}, qr/new/, 'while the disk works');

	open $f, '>', $flag;
	close $f;

	$c = $p->connect();
	$c->raw($c->encode('PING') . $c->encode($p->acquire('web', 'disk-2'))
		. $c->encode('PING', 'x'));
	is($c->recv(), '+PONG', 'no disk is needed for a ping');
	like($c->recv(), qr/^-UNKNOWN/, 'commit failed: unknown');
	is($c->recv(), 'x', 'order is kept');

	for (1 .. 500) {
		last if waitpid $p->pid(), WNOHANG;
		sleep 0.01;
	}

	is($? >> 8, 3, 'the daemon leaves');
	delete $p->{pid};

	$p->start();
	is($p->hash($p->cmd($p->acquire('web', 'disk-1')))->{lease}, $h->{lease},
		'what was told before is there');
	is(ref $p->cmd($p->acquire('web', 'disk-2')), 'ARRAY', 'ask again');
	is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');
}

done_testing();

###############################################################################
