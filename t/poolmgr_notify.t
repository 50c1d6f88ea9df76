#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: what it tells init (sd_notify): ready, reloading, alive,
# stopping; and a daemon that stands still says nothing.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use IO::Select;
use IO::Socket::UNIX;
use Socket;
use Time::HiRes qw/ time sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $p = ImsPool->new(idle => 1);
my $path = $p->tmp() . '/notify';
my $init = IO::Socket::UNIX->new(Local => $path, Type => SOCK_DGRAM)
	or die "$path: $!";
my @got;

# the next line of this name, others are kept
sub told {
	my ($name, $seconds) = @_;
	my $end = time() + $seconds;

	while (1) {
		for my $i (0 .. $#got) {
			return splice @got, $i, 1 if $got[$i] =~ /^$name=/;
		}

		my $left = $end - time();
		return if $left <= 0
			|| !IO::Select->new($init)->can_read($left);
		$init->recv(my $text, 4096);
		push @got, split /\n/, $text;
	}
}

{
	local $ENV{NOTIFY_SOCKET} = $path;
	local $ENV{WATCHDOG_USEC} = 2_000_000;
	$p->start();
}

is(told('READY', 10), 'READY=1', 'ready');
is(told('WATCHDOG', 10), 'WATCHDOG=1', 'alive');
is(told('WATCHDOG', 10), 'WATCHDOG=1', 'and still');

kill 'HUP', $p->pid();
is(told('RELOADING', 10), 'RELOADING=1', 'reloading');
like(told('MONOTONIC_USEC', 10), qr/=\d+$/, 'since when');
is(told('READY', 10), 'READY=1', 'ready again');

kill 'STOP', $p->pid();
sleep 0.2;
1 while told('WATCHDOG', 0.1);
ok(!told('WATCHDOG', 3), 'standing still: no sign of life');
kill 'CONT', $p->pid();
is(told('WATCHDOG', 10), 'WATCHDOG=1', 'alive again');

my $pid = $p->pid();
kill 'TERM', $pid;
is(told('STOPPING', 10), 'STOPPING=1', 'stopping');
is($p->stop(), 0, 'stopped');

# signs of life of another process are not ours to give

{
	local $ENV{NOTIFY_SOCKET} = $path;
	local $ENV{WATCHDOG_USEC} = 2_000_000;
	local $ENV{WATCHDOG_PID} = $$;
	@got = ();
	$p->start();
}

is(told('READY', 10), 'READY=1', 'ready');
ok(!told('WATCHDOG', 3), 'the watchdog waits for another');

# nobody there: of no concern

{
	local $ENV{NOTIFY_SOCKET} = "$path.none";
	$p->stop();
	$p->start();
}

is($p->cmd('PING'), '+PONG', 'no such socket');
is($p->stop(), 0, 'stopped');
unlike($p->log(), qr/\[(?:alert|emerg)\]|runtime error|AddressSanitizer/,
	'no alerts');

done_testing();
