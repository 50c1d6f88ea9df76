#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Import and export of identities: all or nothing under faults and kill -9,
# with leases under way; every faulty line told; what comes out goes in again.

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

use constant MANY => 20000;
use constant ROWS => 1000;			# a command

###############################################################################

my $p = ImsPool->new();
my $c = $p->connect();
my ($status, $out, $err, $r);

$p->pool('web', 50);

# kills the daemon when an import by poolctl has that many rows in: how many,
# and what poolctl exits with

sub killed_at {
	my ($base, $rows, $name) = @_;

	my $pid = fork();

	if ($pid == 0) {
		open STDERR, '>', '/dev/null';
		exec $p->ctl(), '-s', $p->socket(), 'import', 'web', '--range',
			"sip:$name-[00001-" . MANY . ']@ims.example' or POSIX::_exit(1);
	}

	my $in = 0;
	for (1 .. 2000) {
		$in = identities() - $base;
		last if $in >= $rows;
		last if waitpid($pid, WNOHANG);
		sleep 0.002;
	}

	$p->stop('KILL');
	waitpid $pid, 0;

	return ($in, $? >> 8);
}


sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }

sub csv {
	my ($text, $name) = @_;

	my $path = $p->tmp() . '/' . ($name // 'in.csv');
	open my $f, '>:raw', $path or die $!;
	print $f $text;
	close $f;

	return $path;
}

sub info { return { $p->cmd('INFO') =~ /^(\w+):(\d+)\r$/mg }; }
sub identities { return info()->{identities}; }
sub clean { return $p->hash($p->cmd('CHECK'))->{faults}; }

# lines as IMPORT ROWS takes them
sub rows {
	my ($name, $first, $last) = @_;

	return join '', map {
		"$name$_\@ims.example\t\tsip:$name$_\@ims.example\n" } $first .. $last;
}

sub begin {
	my ($c) = @_;

	for (1 .. 400) {
		$r = $c->cmd('IMPORT', 'BEGIN', 'web');
		last unless $r =~ /^-BUSY/;
		sleep 0.05;
	}

	return $r;
}

# poolctl when nothing else is under way any more
sub import_csv {
	my ($text, @args) = @_;

	my $path = csv($text);

	for (1 .. 400) {
		ctl('import', 'web', $path, @args);
		last unless $err =~ /BUSY/;
		sleep 0.05;
	}

	return $status;
}

# until all of an import is out again
sub settled {
	my ($n) = @_;

	for (1 .. 400) {
		return 1 if identities() == $n;
		sleep 0.05;
	}

	return 0;
}

###############################################################################

# CSV as it comes

is(import_csv("\xef\xbb\xbfimpi,impu,display\r\n"
	. "a1\@ims.example,sip:a1\@ims.example,\"A, \"\"one\"\"\"\r\n"
	. "\"a2\@ims.example\",\"sip:a2\@ims.example\",\r\n"
	. "a3\@ims.example,sip:a3\@ims.example,last line without an end"), 0,
	'byte order mark, CRLF, quotes') or diag($err);
is(decode_json($out)->{imported}, 3, 'three');
ctl('show', 'a1@ims.example');
is(decode_json($out)->{display}, 'A, "one"', 'quotes are gone');

for my $t (
	['empty line', "b1\@ims.example,sip:b1\@ims.example\n\n",
		'line 3: an empty line'],
	['too long a line', 'b1@ims.example,"' . 'x' x 9000 . "\"\n",
		'line 2: too long'],
	['too long an IMPU', 'b1@ims.example,sip:' . 'x' x 600
		. "\@ims.example\n", 'line 2: not an IMPU'],
	['too many IMPUs', 'b1@ims.example' . ',tel:+1' x 20 . "\n",
		'line 2: 21 fields, the header has 2'],
	['a NUL', "b1\@ims.example,sip:\0\@ims.example\n", 'line 2: a NUL'],
	['a tab in a name', "b1\@ims.example,\"sip:b1\t\@ims.example\"\n",
		'line 2: not an IMPU'],
	['the second line of a field', "b1\@ims.example,sip:b1\@ims.example\n"
		. "b2\@ims.example,\"sip:b\n2\@ims.example\"\n"
		. "b3\@ims.example,nix\n", 'line 3: not an IMPU'],
	['behind a field of two lines', "\"b2\@ims\n.example\",sip:b2\@x\n"
		. "b3\@ims.example,nix\n", 'line 2: not an IMPI'],
	['IMPI twice', "b1\@ims.example,sip:b1\@ims.example\n"
		. "B1\@IMS.example,sip:b2\@ims.example\n",
		'line 3: IMPI as in line 2: B1@IMS.example'],
	['IMPU twice', "b1\@ims.example,sip:b1\@ims.example:5060\n"
		. "b2\@ims.example,sip:B1\@ims.example\n",
		'line 3: IMPU as in line 2: sip:B1@ims.example'],
	['first of two faults', "b1\@ims.example,sip:a1\@ims.example\n"
		. "b2\@ims.example,nix\n",
		'line 2: IMPU taken: sip:a1@ims.example (in pool web)'])
{
	my $before = info()->{commits};

	is(import_csv("impi,impu\n" . $t->[1]), 1, $t->[0]);
	is($err, 'ims-poolctl: ' . $p->tmp() . "/in.csv $t->[2]"
		. ($t->[2] =~ /NUL/ ? ' byte' : '')
		. ($t->[0] =~ /second line/ ? ": sip:b\n2\@ims.example" : '')
		. ($t->[0] =~ /a tab/ ? ": sip:b1\t\@ims.example" : '')
		. ($t->[0] =~ /long an/ ? ': sip:' . 'x' x 600 . '@ims.example' : '')
		. "\nims-poolctl: nothing was imported\n", "$t->[0]: says where");
	is(identities(), 53, "$t->[0]: nothing came in");
}

# all that is wrong, and nothing is written

my $bad = "impi,impu,impu2\n"
	. "d1\@ims.example,sip:d1\@ims.example,\n"
	. "d2,sip:d2\@ims.example,\n"
	. "\n"
	. "d4\@ims.example,sip:d4\@ims.example,sip:a1\@ims.example\n"
	. "d5\@ims.example,\"sip:d5\"x,\n"
	. "d6\@ims.example,sip:d6\@ims.example,sip:D1\@ims.example\n"
	. "d7\@ims.example,sip:d7\@ims.example,tel:+1-7\n"
	. "d8\@ims.example,sip:d8\@ims.example,sip:d8\@IMS.example\n"
	. "d9\@ims.example,sip:d9\@ims.example,sip:+17\@ims.example;user=phone\n"
	. "\"d0\@ims.example,sip:d0\@ims.example,\n";
my @told = (
	'line 3: not an IMPI',
	'line 4: an empty line',
	'line 5: IMPU taken: sip:a1@ims.example (in pool web)',
	'line 6: text behind a closing quote',
	'line 7: IMPU as in line 2: sip:D1@ims.example',
	'line 9: IMPU twice in the line: sip:d8@IMS.example',
	'line 10: IMPU as in line 8: sip:+17@ims.example;user=phone',
	'line 11: a quote is not closed');
my $told = join '', map { 'ims-poolctl: ' . $p->tmp() . "/in.csv $_\n" } @told;

my $before = info()->{commits};
is(import_csv($bad, '--dry-run'), 1, 'dry run');
is($err, $told, 'dry run: each faulty line');
is_deeply(decode_json($out), { rows => 10, faulty => 8 }, 'dry run: counts');
cmp_ok(info()->{commits}, '<=', $before + 2, 'dry run: nothing is written');
is(identities(), 53, 'dry run: nothing came in');

is(import_csv("impi,impu\nd1\@ims.example,sip:d1\@ims.example\n",
	'--dry-run'), 0, 'dry run of a good one');
is($err, '', 'dry run of a good one: no word');
is_deeply(decode_json($out), { rows => 1, faulty => 0 }, 'and its count');
is(ctl('import', 'nix', $p->tmp() . '/in.csv', '--dry-run'), 1, 'no pool');
like($err, qr/no such pool/, 'dry run: says so');

# all but what is wrong

is(import_csv($bad, '--keep-going'), 4, 'keep going');
is($err, $told, 'keep going: each faulty line');
is_deeply(decode_json($out), { imported => 2, left_out => 8 },
	'keep going: counts');
is(ctl('show', 'sip:d1@ims.example'), 0, 'the good ones came in');
is(ctl('show', 'tel:+17'), 0, 'both');
is(identities(), 55, 'no other');
is(import_csv("impi,impu\ne1\@ims.example,sip:e1\@ims.example\n",
	'--keep-going'), 0, 'keep going without a fault');
is(import_csv("impi,impu\ne2\@ims.example,sip:e1\@ims.example\n",
	'--keep-going'), 1, 'keep going without a good line');
like($err, qr/nothing was imported: no line is good/, 'says so');
is(identities(), 56, 'nothing came in');
is(clean(), 0, 'check');

# numbers that were in use elsewhere

is($p->cmd('POOL', 'CREATE', 'rest', 'ims.example'), '+OK', 'another pool');
is(ctl('import', 'rest', '--range', 'sip:r-[1-3]@ims.example', '--rest', 600),
	0, 'with a rest');
like($p->cmd($p->acquire('rest', 'x')), qr/^-EXHAUSTED (59\d|600)$/,
	'not given before');
ctl('pool', 'stat', 'rest');
is(decode_json($out)->{resting}, 3, 'they rest');
is(ctl('import', 'rest', '--range', 'sip:s-[1-3]@ims.example', '--rest', 'x'),
	1, 'not a number');

# a progress bar is for people

SKIP: {
	skip 'no script(1)', 2 unless grep { -x "$_/script" } split /:/, $ENV{PATH};

	my $tty = sub {
		my ($redirect) = @_;

		my $n = 'p' . ++$r;
		my $cmd = $p->ctl() . ' -s ' . $p->socket() . ' import web --range '
			. "'sip:$n-[0001-3000]\@ims.example' $redirect";
		open my $f, '-|', 'script', '-qec', $cmd, '/dev/null' or die $!;
		local $/;
		return scalar <$f>;
	};

	$r = 0;
	like($tty->(''), qr/\rimporting +\[#+\.*\] +\d+ %.*3000 imported/s,
		'a bar on a terminal');
	is($tty->('2>&1 | cat') =~ /\[#/, '', 'none in a pipe');
}

settled(56 + 6000 + 3) or diag('the bars: ' . identities());
is(clean(), 0, 'check');

# a fault at the last line: the daemon's own word, whatever poolctl looked at

my $base = identities();
my $no = begin($c);
for (my $i = 0; $i < MANY; $i += ROWS) {
	$r = $c->cmd('IMPORT', 'ROWS', $no, $i + 1, rows('f', $i + 1, $i + ROWS));
}
is($r, MANY, MANY . ' rows staged');
is(identities(), $base + MANY, 'they are there');
is($p->hash($p->cmd('POOL', 'STAT', 'web'))->{free}, $base - 3,
	'and are not to be had');
is(clean(), 0, 'check, with staged ones');

# two at once

my $other = $p->connect();
like($other->cmd('IMPORT', 'BEGIN', 'rest'), qr/^-BUSY/, 'one at a time');
like($other->cmd('IMPORT', 'ROWS', $no, 1, rows('x', 1, 1)), qr/^-NOTFOUND/,
	'not by another connection');
like($other->cmd('IMPORT', 'END', $no), qr/^-NOTFOUND/, 'nor ended');
like($other->cmd('IDENTITY', 'ADD', 'web', 0, 'x@ims.example', '',
	'sip:x@ims.example'), qr/^-BUSY/, 'nor one identity');
is(ctl('import', 'web', '--range', 'sip:x-[1-9]@ims.example'), 1, 'poolctl');
like($err, qr/\(BUSY\)/, 'says so');

is($c->cmd('IMPORT', 'ROWS', $no, MANY + 1, rows('g', 1, 2) . rows('a', 1, 1)),
	'-DUPLICATE ' . (MANY + 3) . ' IMPI taken', 'the last line is a duplicate');
like($c->cmd('IMPORT', 'END', $no), qr/^-NOTFOUND/, 'it cannot be ended');
ok(settled($base), 'all of it goes out again');
is(clean(), 0, 'check');

# the same, and the daemon is killed while it takes them out

$no = begin($c);
$c->send('IMPORT', 'ROWS', $no, $_ * ROWS + 1,
	rows('f', $_ * ROWS + 1, ($_ + 1) * ROWS)) for 0 .. MANY / ROWS - 1;
$c->recv() for 0 .. MANY / ROWS - 1;
is($c->cmd('IMPORT', 'ROWS', $no, 9, rows('a', 1, 1)),
	'-DUPLICATE 9 IMPI taken', 'a duplicate');
my $left = identities();
$p->stop('KILL');
$p->start();
is(identities(), $base, "killed with $left, started with $base");
is(clean(), 0, 'check');

# killed in the middle of an import by poolctl (another import, if that one
# was over before)

for my $round (1 .. 3) {
	my ($in, $went);

	for my $try (1 .. 5) {
		($in, $went) = killed_at($base, $round * 4 * ROWS, "k$round$try");
		$p->start();
		last if $in < MANY && $p->log() =~ /1 unfinished import/;
		$base = identities();
	}

	is($went, 3, 'killed: poolctl says that the daemon went away');
	like($p->log(), qr/1 unfinished import/, 'the log tells of it');
	is(identities(), $base, "killed with $in of @{[MANY]} rows in: none left");
	is(clean(), 0, 'check');
}

# poolctl is killed

my $pid = fork();

if ($pid == 0) {
	open STDERR, '>', '/dev/null';
	exec $p->ctl(), '-s', $p->socket(), 'import', 'web', '--range',
		'sip:k-[00001-' . MANY . ']@ims.example' or POSIX::_exit(1);
}

for (1 .. 2000) {
	last if identities() >= $base + 3 * ROWS;
	sleep 0.002;
}

kill 'KILL', $pid;
waitpid $pid, 0;
ok(settled($base), 'poolctl killed: all of it goes out again');
like($p->log(), qr/import \d+ was left unfinished/, 'the log tells of it');

# decided, and killed: it is carried on

$c = $p->connect();
$no = begin($c);
for (my $i = 0; $i < MANY; $i += ROWS) {
	$c->cmd('IMPORT', 'ROWS', $no, $i + 1, rows('h', $i + 1, $i + ROWS));
}
$c->send('IMPORT', 'END', $no);
for (1 .. 2000) {
	last if $p->log() =~ /import $no ended/;
	sleep 0.002;
}
$p->stop('KILL');
$p->start();
is(identities(), $base + MANY, 'ended and killed: all are there');
is($p->hash($p->cmd('POOL', 'STAT', 'web'))->{off}, 0, 'and may be leased');
is(clean(), 0, 'check');

# leases under way

my $log = $p->tmp() . '/latency';
my $leases = fork();

if ($leases == 0) {
	my ($stop, @ms) = (0);
	local $SIG{TERM} = sub { $stop = 1 };
	my $c = $p->connect();

	for (my $i = 0; !$stop; $i++) {
		my $t = time();
		my $r = $c->cmd($p->acquire('web', "l$i"));
		last if $stop;
		push @ms, ref $r ? (time() - $t) * 1000 : 1e9;
		sleep 0.01;
	}

	open my $f, '>', $log or POSIX::_exit(1);
	print $f "$_\n" for sort { $a <=> $b } @ms;
	close $f;
	POSIX::_exit(0);
}

sleep 0.2;
my $t = time();
is(ctl('-t', 600, 'import', 'web', '--range', 'sip:l-[00001-' . MANY
	. ']@ims.example', '--range', 'tel:+1555[00001-' . MANY . ']'), 0,
	MANY . ' identities with two IMPUs');
$t = time() - $t;
kill 'TERM', $leases;
waitpid $leases, 0;

open my $f, '<', $log or die $!;
chomp(my @ms = <$f>);
close $f;

cmp_ok(scalar @ms, '>', 3, scalar @ms . ' leases were given meanwhile');
cmp_ok($ms[-1], '<', 10000, sprintf 'each of them: p50 %.1f, p99 %.1f, '
	. 'worst %.1f ms, import %.1f s', $ms[@ms / 2], $ms[@ms * 0.99], $ms[-1],
	$t);
is(clean(), 0, 'check');

# out of one pool manager and into another

is(import_csv("impi,impu,impu2,impu3,display\n"
	. "x1\@ims.example,sip:x1\@ims.example,tel:+49-1,sip:X1\@b.example,"
	. "\"comma, \"\"quote\"\"\"\n"
	. "x2\@ims.example,tel:+49-2,,,\n"), 0, 'a few odd ones');
is(ctl('identity', 'disable', 'x2@ims.example'), 0, 'one is disabled');
is(import_csv("impi,impu\nx3\@ims.example,sip:x3\@ims.example\n", '--rest',
	600), 0, 'one rests');
is(ctl('identity', 'remove', 'x3@ims.example'), 0, 'and is removed');

my $one = $p->tmp() . '/one.csv';
is(ctl('export', 'web', $one), 0, 'export') or diag($err);
is($out, '', 'into a file');
is(ctl('export', 'web'), 0, 'export to standard output');
open $f, '<:raw', $one or die $!;
my $text = do { local $/; <$f> };
close $f;
is(length $out, length $text, 'the same');
is($out, $text, 'byte by byte');
like($text, qr/^impi,impu,impu2,impu3,display\r\n/, 'header');
like($text, qr/^x1\@ims\.example,sip:x1\@ims\.example,tel:\+49-1,
	sip:X1\@b\.example,"comma,\ ""quote"""\r$/mx, 'names as they were given');
like($text, qr/^x2\@ims\.example,tel:\+49-2,,,\r$/m, 'fewer names');
unlike($text, qr/^x3\@/m, 'not the removed one');
is(scalar(() = $text =~ /\n/g), identities() - 3, 'a line each, and a header');

my $second = ImsPool->new();
$second->pool('copy', 0);
($status, $out, $err) = $second->run_ctl('import', 'copy', $one);
is($status, 0, 'goes into another') or diag($err);
($status, $out, $err) = $second->run_ctl('export', 'copy');
is(join('', sort split /^/, $out), join('', sort split /^/, $text),
	'and comes out again');
my $again = csv($out, 'again.csv');
my $third = ImsPool->new();
$third->pool('copy', 0);
is(($third->run_ctl('import', 'copy', $again))[0], 0, 'a third time');
is(($third->run_ctl('export', 'copy'))[1], $out, 'byte by byte');
is($third->hash($third->cmd('CHECK'))->{faults}, 0, 'check');

is(ctl('export', 'nix'), 1, 'export of no pool');
like($err, qr/no such pool/, 'says so');
is(ctl('export', 'web', '/nix/x'), 2, 'export into nowhere');
like($err, qr/cannot write/, 'says so');
is(ctl('export', 'web', $p->tmp()), 1, 'export over a directory');
is(join(' ', glob $p->tmp() . '*.??????'), '', 'leaves nothing behind');

# identities with all their names

is(ctl('identity', 'list', 'web', '--state', 'off'), 0, 'identity list');
my $list = decode_json($out);
is(join(' ', map { "$_->{impi}:$_->{flags}" } @$list),
	'x2@ims.example:disabled x3@ims.example:removing', 'off');
ctl('identity', 'list');
$list = decode_json($out);
is(scalar @$list, identities(), 'identity list of all');
my ($x1) = grep { $_->{impi} eq 'x1@ims.example' } @$list;
is_deeply($x1->{impus}, ['sip:x1@ims.example', 'tel:+49-1',
	'sip:X1@b.example'], 'all names');
is("$x1->{pool} $x1->{state} $x1->{display}", 'web free comma, "quote"',
	'and the rest');
is(ctl('identity', 'list', 'web', '--state', 'nix'), 1, 'no such state');

# IMPORT LOOK as the protocol has it

is_deeply($p->cmd('IMPORT', 'LOOK', 'web', 7, "y\@ims.example\t\ttel:+1\n"
	. "y\@ims.example\n" . "x1\@ims.example\t\tsip:y\@ims.example\n"
	. "z\@ims.example\t\tsip:z\@ims.example\tsip:x1\@ims.example\n"
	. "z\@ims.example\t" . "\tsip:z\@ims.example" x 17 . "\n"
	. "z\@ims.example\t\tsip:z\@ims.example"),
	[[8, 'BADROW', 'no IMPU or too many of them', 0, ''],
	[9, 'DUPLICATE', 'IMPI taken', 0, 'web'],
	[10, 'DUPLICATE', 'IMPU taken', 1, 'web'],
	[11, 'BADROW', 'too many IMPUs', 0, ''],
	[12, 'BADROW', 'the row has no end', 0, '']], 'look: places and words');
is_deeply($p->cmd('IMPORT', 'LOOK', 'web', 0, ''), [], 'look at nothing');
like($p->cmd('IMPORT', 'LOOK', 'nix', 0, ''), qr/^-NOPOOL/, 'look: no pool');
like($p->cmd('IMPORT', 'LOOK', 'web', 0, "\n" x 2001), qr/^-BADARG/,
	'look: too many');
is(scalar @{$p->cmd('IMPORT', 'LOOK', 'web', 1, "\n" x 2000)}, 2000,
	'look: two thousand faults');

done_testing();

###############################################################################
