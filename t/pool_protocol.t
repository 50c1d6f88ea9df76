#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: framing, limits, order, and who else speaks RESP.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $p = ImsPool->new();
$p->pool('web', 20);

my ($c, $r, $h);

# framing

$c = $p->connect();
is($c->cmd('PING'), '+PONG', 'ping');
is($c->cmd('ping', "a\r\n-b"), "a\r\n-b", 'ping with text, any case');
is($c->cmd('NIX'), '-ERR unknown command', 'unknown command');
is($c->cmd("NIX\r\n+OK"), '-ERR unknown command', 'no byte of it comes back');
is($c->cmd('POOL', 'NIX'), '-ERR unknown subcommand', 'unknown subcommand');
is($c->cmd('ACQUIRE'), '-BADARG wrong number of arguments', 'too few');
is($c->cmd('PING', 1, 2), '-BADARG wrong number of arguments', 'too many');
is($c->cmd('PING'), '+PONG', 'and still there');

for my $raw ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PING\r\n", "\r\n",
	"*-1\r\n", "*0\r\n", "*1\n\$4\r\nPING\r\n", "*1\r\n*1\r\n\$4\r\nPING\r\n",
	"*1\r\n\$-1\r\n", "*1\r\n\$4\r\nPINGPONG\r\n")
{
	$c = $p->connect();
	$c->raw($raw);
	(my $name = $raw) =~ s/([\r\n])/$1 eq "\r" ? '\r' : '\n'/ge;
	ok($c->closed(), "closed without a word: $name");
}

$c = $p->connect();
$c->raw($c->encode('PING') . 'HTTP');
is($c->recv(), '+PONG', 'command before garbage is answered');
ok($c->closed(), 'then closed');

# every byte alone

$c = $p->connect();
for my $b (split //, $c->encode('PING', 'slow')) {
	$c->raw($b);
}
is($c->recv(), 'slow', 'byte by byte');

# limits

$c = $p->connect();
is($c->cmd('PING', (1) x 63), '-BADARG wrong number of arguments',
	'64 arguments');
is($c->cmd('PING', (1) x 64), '-BADARG too many arguments', '65 arguments');
ok($c->closed(), 'closed after it');

$c = $p->connect();
my $big = 'x' x (1024 * 1024 - 100);
is($c->cmd('PING', $big), $big, 'nearly 1 MiB of an admin');
$c->raw("*2\r\n\$4\r\nPING\r\n\$1048576\r\n");
is($c->recv(), '-BADARG command too long', '1 MiB and more');
ok($c->closed(), 'closed after it');

$c = $p->connect();
is($c->cmd('AUTH', $p->secret('wwsf')), '+OK', 'auth');
$c->raw("*2\r\n\$4\r\nPING\r\n\$65536\r\n");
is($c->recv(), '-BADARG command too long', '64 KiB of another role');
ok($c->closed(), 'closed after it');

# end of input

$c = $p->connect();
$c->raw($c->encode('PING', 1) . $c->encode('PING', 2));
$c->shut();
is($c->recv(), 1, 'half closed: first answer');
is($c->recv(), 2, 'half closed: second answer');
ok($c->closed(), 'then closed');

$c = $p->connect();
$c->raw($c->encode('PING', 1) . "*1\r\n\$4\r\nPI");
$c->shut();
is($c->recv(), 1, 'half a command at the end: answer before it');
ok($c->closed(), 'then closed');

$c = $p->connect();
is($c->cmd('QUIT'), '+OK', 'quit');
ok($c->closed(), 'then closed');

# pipelining: order, and later commands see earlier ones

$c = $p->connect();
my @cmds;
for my $i (1 .. 300) {
	push @cmds, ['PING', "p$i"],
		[$p->acquire('web', "u" . $i % 10, undef, nonce => sprintf('%032x', $i))],
		['NIX'], ['POOL', 'LIST'];
}
$c->raw(join '', map { $c->encode(@$_) } @cmds);

my $bad = 0;
for my $i (1 .. 300) {
	$bad++ if $c->recv() ne "p$i";
	$h = $p->hash($c->recv());
	$bad++ if ($h->{nonce} // '') ne sprintf '%032x', $i;
	$bad++ if $h->{state} ne ($i <= 10 ? 'new' : 'same');
	$bad++ if $c->recv() ne '-ERR unknown command';
	$bad++ if @{$c->recv()} != 1;
}
is($bad, 0, '1200 pipelined commands, each in its place');

$c->raw($c->encode($p->acquire('web', 'pipe')) . $c->encode('PING', 'x'));
$h = $p->hash($c->recv());
is($c->recv(), 'x', 'read behind a write');
my $lease = $h->{lease};
$c->raw($c->encode('SHOW', 'LEASE', $lease)
	. $c->encode('REVOKE', 'LEASE', $lease)
	. $c->encode('SHOW', 'LEASE', $lease)
	. $c->encode($p->renew('web', 'pipe', $lease)));
is($p->hash($c->recv())->{state}, 'leased', 'show before the revocation');
is($c->recv(), 1, 'revoked');
is($p->hash($c->recv())->{state}, 'resting', 'show behind it');
like($c->recv(), qr/^-ENDED/, 'renew behind the revocation');

# harmless answers

is($c->cmd('SELECT', 0), '+OK', 'select');
like($c->cmd('SELECT', 1), qr/^-BADARG/, 'select 1');
is_deeply($c->cmd('CONFIG', 'GET', 'save'), [], 'config get');
is_deeply($c->cmd('COMMAND', 'DOCS'), [], 'command docs');
is($c->cmd('CLIENT', 'SETNAME', 'x'), '+OK', 'client');
like($c->cmd('CONFIG', 'SET', 'dir', '/'), qr/^-ERR/, 'config set');
is($p->hash($c->cmd('HELLO', 2))->{proto}, 2, 'hello 2');
like($c->cmd('HELLO', 3), qr/^-NOPROTO/, 'hello 3');
like($c->cmd('INFO'), qr/^incarnation:1\r$/m, 'info');
like($c->cmd('INFO', 'server'), qr/^process_id:@{[$p->pid()]}\r$/m,
	'info of a section');

# real clients

SKIP: {
	skip 'no redis-cli', 5 unless `redis-cli --version 2>/dev/null`;

	my $cli = 'redis-cli -s ' . $p->socket();

	is(`$cli PING`, "PONG\n", 'redis-cli ping');
	like(`$cli INFO`, qr/ims_poolmgr_version/, 'redis-cli info');
	like(`$cli ACQUIRE web site carol 0000000000000007 @{[$p->nonce()]} 0`,
		qr/^sip:web-\d+\@ims.example$/m, 'redis-cli acquire');
	like(`echo PING | $cli -3 2>&1`, qr/PONG/, 'redis-cli that wants RESP3');

	skip 'no redis-benchmark', 1
		unless `redis-benchmark --version 2>/dev/null`;

	like(`redis-benchmark -s @{[$p->socket()]} -t ping_mbulk -n 5000 -q 2>&1`,
		qr/PING_MBULK: [\d.]+ requests/, 'redis-benchmark');
}

unlike($p->log(), qr/\[(emerg|alert|error)\]/, 'nothing alarming in the log');

is($p->stop(), 0, 'clean stop');
ok(!-e $p->socket(), 'socket is gone');

done_testing();

###############################################################################
