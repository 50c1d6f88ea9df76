#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: clients that flood, that do not read, many at once; a full map
# and a damaged row in the middle of a batch.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use POSIX;
use Time::HiRes qw/ sleep time /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant STUCK => 10;       # seconds, of the daemon

###############################################################################

my ($p, $c, $r, $h);

$p = ImsPool->new();
$p->pool('web', 3000);

sub rss {
	open my $f, '<', '/proc/' . $p->pid() . '/status' or return 0;
	my ($kb) = map { /^VmRSS:\s+(\d+)/ ? $1 : () } <$f>;
	return $kb;
}

# in the background, killed at the end
my @children;

sub background {
	my ($do) = @_;

	my $pid = fork();

	if ($pid == 0) {
		$do->();
		POSIX::_exit(0);
	}

	push @children, $pid;
	return $pid;
}

sub reap {
	for (splice @children) {
		kill 'KILL', $_;
		waitpid $_, 0;
	}
}

# two that flood, 49 quiet ones

for my $k (1 .. 2) {
	background(sub {
		my $c = $p->connect();
		my $i = 0;

		while (1) {
			$c->raw(join '', map {
				$c->encode($p->acquire('web', "flood$k-" . $i++ % 500))
			} 1 .. 500) or return;
			$c->recv() for 1 .. 500;
		}
	});
}

sleep 0.3;

my @quiet = map { $p->connect() } 1 .. 49;
my ($worst, $sum, $n, $bad) = (0, 0, 0, 0);

for my $round (1 .. 6) {
	for my $i (0 .. $#quiet) {
		my $t = time();
		$h = $p->hash($quiet[$i]->cmd($p->acquire('web', "quiet$i")));
		$t = time() - $t;

		$bad++ unless ($h->{state} // '') eq ($round == 1 ? 'new' : 'same');
		$worst = $t if $t > $worst;
		$sum += $t;
		$n++;
	}
}

is($bad, 0, "$n commands of quiet clients beside two floods");
cmp_ok($worst, '<', 8, sprintf 'none waits long: mean %.1f ms, worst %.1f ms',
	$sum / $n * 1000, $worst * 1000);

reap();

# durable leases a second, 50 connections with one command each under way

my $begin = time();
my $total = 5000;
my @conn = map { $p->connect() } 1 .. 50;

for my $i (1 .. $total / 50) {
	$_->send($p->acquire('web', 'load' . int rand 500)) for @conn;
	ref $_->recv() or $bad++ for @conn;
}

is($bad, 0, sprintf '%d leases, %d a second (with this client)', $total,
	$total / (time() - $begin));

my ($commands) = $p->cmd('INFO') =~ /^total_commands_processed:(\d+)/m;
my ($commits) = $p->cmd('INFO') =~ /^commits:(\d+)/m;
cmp_ok($commits, '<', $commands / 4, "batches: $commands commands, "
	. "$commits commits");

# one that sends and does not read, and is in nobody's way

my $rss = rss();
my $stuck = $p->connect();
my $sent = 0;
my $bytes = $stuck->encode('INFO') x 1000;

$stuck->{s}->blocking(0);

my $until = time() + 2;
while (time() < $until) {
	my $n = syswrite $stuck->{s}, $bytes;
	$n ? $sent += $n : sleep 0.01;
}

is($p->connect()->cmd('PING'), '+PONG', 'others are served');
cmp_ok($sent, '<', 8 * 1024 * 1024, "sent $sent bytes, then it had to wait");
cmp_ok(rss() - $rss, '<', 8 * 1024, 'memory for it is bounded: '
	. (rss() - $rss) . ' KiB');

for (1 .. (STUCK + 10) * 10) {
	last if $p->log() =~ /does not read its answers/;
	sleep 0.1;
}

like($p->log(), qr/\[warn\].*does not read its answers, closed/,
	'closed after a while');
$stuck->{s}->blocking(1);

# one that reads late, but reads, gets everything

$c = $p->connect();
my $late = background(sub {
	$c->raw(join '', map { $c->encode('PING', "$_-" . 'x' x 1000) } 1 .. 3000);
	sleep 30;
});
sleep 0.5;
$bad = 0;
for my $i (1 .. 3000) {
	$bad++ unless ($c->recv() // '') =~ /^$i-x+$/;
}
is($bad, 0, 'a late reader gets 3000 answers in order');
reap();

# too many connections: an admin still gets in

my @many;
for (1 .. 1100) {
	my $c = $p->connect() or last;
	push @many, $c;
}
like($many[-1]->recv(), qr/^-BUSY/, 'the 1100th is refused');
ok($many[-1]->closed(), 'and closed');
is($many[0]->cmd('PING'), '+PONG', 'the first one is served');
cmp_ok(scalar(() = $p->log() =~ /refused: \d+ connections/g), '<=', 40,
	'a few lines in the log, not one each');
@many = ();
for (1 .. 100) {
	last if ($p->connect()->cmd('PING') // '') eq '+PONG';
	sleep 0.05;
}
is($p->connect()->cmd('PING'), '+PONG', 'room again');

$p->stop();

# a full map in mid-batch: what fails alone is refused, the others are done

$p = ImsPool->new(args => ['--map-size', 1, '--reserve', 0]);
$p->pool('web', 300);
$p->cmd($p->acquire('web', "old$_")) for 1 .. 20;

$c = $p->connect();
my $no = $c->cmd('IMPORT', 'BEGIN', 'web');
my $i = 0;
for my $n (50, 1) {
	for (1 .. 200) {
		my $rows = join '', map { $i++;
			"f$i\@ims.example\t\tsip:f$i\@ims.example\n" } 1 .. $n;
		$r = $c->cmd('IMPORT', 'ROWS', $no, 1, $rows);
		last if $r =~ /^-/;
	}
}
like($r, qr/^-NOSPACE/, 'map is full');

my @users = ((map { "old$_" } 1 .. 10), (map { "new$_" } 1 .. 100));
$c->raw($c->encode('PING', 'a') . join('', map {
	$c->encode($p->acquire('web', $_)) } @users) . $c->encode('PING', 'b'));

is($c->recv(), 'a', 'first of the pipeline');
my %got;
for (@users) {
	$r = $c->recv();
	$r = ref $r ? $p->hash($r)->{state} : (split ' ', $r)[0];
	$got{$r}++;
}
is($c->recv(), 'b', 'last of the pipeline');
is_deeply([grep { !/^(same|new|-NOSPACE)$/ } keys %got], [],
	join ', ', map { "$got{$_} $_" } sort keys %got);
is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');
like($p->cmd('INFO'), qr/^replayed_batches:[1-9]/m, 'batches were replayed');
like($p->log(), qr/a batch of \d\d+ commands failed \(.*each is done alone/,
	'one of many commands');
is($p->stop(), 0, 'still alive');

# a damaged row: its command fails, its neighbours do not

$p = ImsPool->new();
$p->pool('web', 20);
my @lease = map { $p->hash($p->cmd($p->acquire('web', "u$_")))->{lease} }
	1 .. 10;
$p->stop();

{
	my $file = $p->dir() . '/env.1/data.mdb';
	local $/;
	open my $f, '+<:raw', $file or die $!;
	my $data = <$f>;
	my $n = $data =~ s/web 5(?=sip)/web 6/g || $data =~ s/web 5/web 6/g;
	cmp_ok($n, '>', 0, 'a display name changed in the file');
	seek $f, 0, 0;
	print $f $data;
	close $f;
}

$p->start();
$c = $p->connect();
$c->raw(join '', map { $c->encode($p->renew('web', "u$_", $lease[$_ - 1])) }
	1 .. 10);
my @got = map { $r = $c->recv(); ref $r ? 'ok' : $r =~ /^(-\w+)/ } 1 .. 10;
is("@got", 'ok ok ok ok -INTERNAL ok ok ok ok ok', 'one of ten fails');
like($p->log(), qr/\[(alert|error)\]/, 'the log says so');
$h = $p->hash($p->cmd('CHECK'));
cmp_ok($h->{faults}, '>', 0, 'check finds it');
like($p->log(), qr/\[alert\].*check found/, 'and logs it');
is(($p->run_ctl('check'))[0], 1, 'ims-poolctl check fails');

done_testing();

###############################################################################
