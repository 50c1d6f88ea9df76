#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# ims-poolctl: commands, exit status, messages, import from CSV and ranges.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use JSON::PP;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $p = ImsPool->new();
my ($status, $out, $err, $j);

# status, and JSON or text
sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }
sub json { ctl(@_); return $j = eval { decode_json($out) } || {}; }

# usage

is(ctl('--help'), 0, 'help');
like($out, qr/^  import +\S/m, 'lists the commands');

for my $command ($out =~ /^  ([a-z]+(?: [a-z]+)?)  +\S/mg) {
	is(ctl(split(' ', $command), '--help'), 0, "help of $command");
	like($out, qr/^Usage: ims-poolctl $command/, "$command: usage");
}

like(join('', $p->run_ctl('--version')), qr/^0ims-poolctl \d/, 'version');

for my $t ([[], 'which command'], [['nix'], 'no command "nix"'],
	[['pool', 'nix'], 'no command "pool nix"'], [['pool'], 'no command'],
	[['pool', 'create', 'a'], 'usage: ims-poolctl pool create NAME HOME'],
	[['ping', 'x'], 'usage'], [['--nix', 'ping'], 'nix'],
	[['ping', '--ttl', 5], 'does not take this option'],
	[['-t', 'x', 'ping'], '--timeout'],
	[['renew', 'a', 'b', 'c'], '--sid is needed'],
	[['show', 'nix'], 'neither a lease'], [['revoke', 'nix', 'x'], 'revoke'],
	[['report', 'x', 1, 1, '+x'], '\+SECONDS'],
	[['import', 'a'], '--range'],
	[['import', 'a', 'f', '--range', 'sip:x'], '--range'])
{
	is(ctl(@{$t->[0]}), 2, "usage: @{$t->[0]}");
	like($err, qr/$t->[1]/, "usage: @{$t->[0]}: says what");
	is($out, '', "usage: @{$t->[0]}: nothing else");
}

# the daemon is not there

is(ctl('-s', $p->tmp() . '/nix', 'ping'), 3, 'no socket');
like($err, qr/cannot reach/, 'says so');

is(ctl('ping'), 0, 'ping');
is(ctl('info'), 0, 'info');
is(json('info')->{incarnation}, 1, 'info in JSON');
ctl('--text', 'info');
like($out, qr/^incarnation:1\r$/m, 'info in text');

# pools

is(ctl('pool', 'create', 'web', 'ims.example', '--ttl', 300, '--ttl-max', 900,
	'--delay', 40, '--margin', 20, '--min-expires', 30, '--realms',
	'poolctl,site'), 0, 'pool create');
is(ctl('pool', 'create', 'web', 'ims.example'), 1, 'pool create again');
like($err, qr/there already \(EXISTS\)/, 'says so');
is(ctl('pool', 'create', 'x', 'ims.example', '--ttl', 'x'), 1, 'bad ttl');
like($err, qr/not accepted: a time/, 'says so');

is_deeply([@{json('pool', 'list')->[0]}{qw/ name home realms ttl ttl_max d
	margin min_expires identities /}], ['web', 'ims.example', 'poolctl,site',
	300000, 900000, 40000, 20000, 30, 0], 'pool list');
is(ctl('pool', 'alter', 'web', '--margin', 25), 0, 'pool alter');
is(json('pool', 'list')->[0]{margin}, 25000, 'altered');
is(ctl('pool', 'alter', 'nix', '--margin', 25), 1, 'pool alter: no pool');

is(ctl('acquire', 'web', 'alice'), 1, 'nothing to acquire');
like($err, qr/no identity is free.*\(EXHAUSTED\)/, 'says so');

# import: ranges

is(ctl('import', 'web', '--range', 'sip:web-[0001-1200]@ims.example',
	'--range', 'tel:+1555[0001-1200]', '--display', 'Web [0001-1200]'), 0,
	'import of a range');
is(decode_json($out)->{imported}, 1200, 'so many');
is_deeply(json('show', 'tel:+1-555-1200')->{impus},
	['sip:web-1200@ims.example', 'tel:+15551200'], 'both IMPUs');
is("$j->{impi} $j->{display} $j->{state}",
	'web-1200@ims.example Web 1200 free', 'and the rest');

for my $t (
	['web', ['sip:web-[0001-0002]@ims.example'], 1,
		qr/line 1: IMPI taken: web-0001\@ims.example \(in pool web\)\n.*nothing was imported/],
	['nix', ['sip:y-[1-2]@ims.example'], 1, qr/no such pool/],
	['web', ['sip:y-[1-20]@ims.example'], 2, qr/as many digits/],
	['web', ['sip:y-[2-1]@ims.example'], 2, qr/is no range/],
	['web', ['sip:y-[1-2]@ims.example', 'tel:+1666[1-3]'], 2,
		qr/has 3 names, .* 2/],
	['web', ['y-[1-2]@ims.example'], 1, qr/line 1: not an IMPU/],
	['web', ['tel:+1666[1-2]'], 1, qr/line 1: not an IMPI/],
	['web', ['sip:y-[1-2]@ims.example', 'sip:same@ims.example'], 1,
		qr/line 2: IMPU as in line 1: sip:same\@ims.example/])
{
	is(ctl('import', $t->[0], map { ('--range', $_) } @{$t->[1]}), $t->[2],
		"range: @{$t->[1]}");
	like($err, $t->[3], "range: @{$t->[1]}: says what");
}

# an import that was refused may still be going out
sub import_csv {
	my ($text, @args) = @_;

	open my $f, '>', $p->tmp() . '/in.csv' or die $!;
	print $f $text;
	close $f;

	for (1 .. 100) {
		ctl('import', 'web', $p->tmp() . '/in.csv', @args);
		last unless $err =~ /BUSY/;
		select undef, undef, undef, 0.05;
	}

	return $status;
}

# import: CSV

is(import_csv("impi,impu,impu2,display\r\n"
	. "c1\@ims.example,sip:c1\@ims.example,,\"One, \"\"first\"\"\"\r\n"
	. "c2\@ims.example,sip:c2\@ims.example,tel:+4930555,Zw\xc3\xb6lf\r\n"), 0,
	'CSV');
is(json('show', 'c1@ims.example')->{display}, 'One, "first"', 'quotes');
is(json('show', 'tel:+49-30-555')->{display}, "Zw\x{f6}lf", 'UTF-8');

for my $t (
	['empty', '', qr/line 1: there is no header line/],
	['header alone', "impi,impu\n", qr/holds no identity/],
	['unknown column', "impi,impu,nix\n", qr/line 1: column 3 is "nix"/],
	['no IMPI column', "impu,display\n", qr/line 1: a column impi/],
	['column twice', "impi,impi,impu\n", qr/line 1: column 2/],
	['too few fields', "impi,impu\nd\@ims.example,sip:d\@ims.example\n"
		. "d\@ims.example\n", qr/line 3: 1 fields, the header has 2/],
	['open quote', "impi,impu\nd\@ims.example,\"sip:d\n",
		qr/line 2: a quote is not closed/],
	['bad IMPU', "impi,impu\nd\@ims.example,mailto:d\@ims.example\n",
		qr/line 2: not an IMPU: mailto/],
	['bad IMPI', "impi,impu\nd d,sip:d\@ims.example\n",
		qr/line 2: not an IMPI/],
	['line end in a name', "impi,impu,display\n"
		. "d\@ims.example,sip:d\@ims.example,\"a\nb\"\n",
		qr/line 2: not a display name/],
	['duplicate', "impi,impu\nd\@ims.example,sip:d\@ims.example\n"
		. "e\@ims.example,sip:C1\@ims.example\n", qr/line 3: IMPU taken: sip:C1\@ims.example \(in pool web\)/])
{
	is(import_csv($t->[1]), 1, "CSV: $t->[0]");
	like($err, $t->[2], "CSV: $t->[0]: says where");
	is(ctl('show', 'd@ims.example'), 1, "CSV: $t->[0]: nothing came in");
}

is(import_csv("impi,impu\n" . join '', map {
	"m$_\@ims.example,sip:m$_\@ims.example\n" } 1 .. 1700), 0, '1700 lines');
is(import_csv("impi,impu\n" . (join '', map {
	"n$_\@ims.example,sip:n$_\@ims.example\n" } 1 .. 1700)
	. "n1800\@ims.example,sip:m7\@ims.example\n"), 1, 'fault in line 1702');
like($err, qr/line 1702: IMPU taken: sip:m7\@/, 'says where');
is(json('pool', 'stat', 'web')->{identities}, 1200 + 2 + 1700,
	'all of one, none of the other');
is(ctl('import', 'web', $p->tmp() . '/nix.csv'), 2, 'no such file');

# leases

$j = json('acquire', 'web', 'alice');
my ($lease, $sid) = @$j{qw/ lease sid /};
is("$j->{state} $j->{impi} $j->{ttl}", 'new web-0001@ims.example 300000',
	'acquire');
is_deeply($j->{impus}, ['sip:web-0001@ims.example', 'tel:+15550001'],
	'impus is a list');
is(json('acquire', 'web', 'alice', '--sid', $sid)->{lease}, $lease,
	'the same again');
is(json('acquire', 'web', 'alice', '--realm', 'site')->{state}, 'new',
	'another realm');
is(ctl('acquire', 'web', 'alice', '--realm', 'nix'), 1, 'a realm it has not');
is(json('renew', 'web', 'alice', $lease, '--sid', $sid)->{state}, 'same',
	'renew');
is(ctl('renew', 'web', 'bob', $lease, '--sid', $sid), 1, 'renew by another');
like($err, qr/\(ENDED\)/, 'says so');

is(json('show', 'user', 'web', 'alice')->{lease}, $lease, 'show user');
is_deeply(json('show', $lease)->{sessions}, [{ sid => $sid,
	end => $j->{end} }], 'show lease');
is(scalar @{json('list', 'web', '--state', 'leased')}, 2, 'list');
is(scalar @{json('list')}, 2902, 'list of all');
is(ctl('report', $lease, 1, 'ff', '+1000'), 0, 'report');
cmp_ok(json('show', $lease)->{rest} - $j->{now}, '>=', 1000000, 'rest');
is(json('release', 'web', 'alice', $lease, '--sid', $sid)->{ended}, 1,
	'release');
is(ctl('revoke', 'lease', $lease), 1, 'revoke of a released one');
is(ctl('revoke', 'user', 'web', 'alice', '--realm', 'site'), 0, 'revoke user');
is(decode_json($out)->{revoked}, 1, 'one');
is(ctl('revoke', 'impu', 'sip:nix@ims.example'), 1, 'revoke of none');
is(ctl('revoke', 'pool', 'web'), 0, 'revoke pool');
is_deeply(json('check')->{found}, [], 'check');

# text

ctl('--text', 'acquire', 'web', 'carol');
like($out, qr/^impu +sip:web-\d+\@ims.example$/m, 'acquire in text');
like($out, qr/^end +\d{4}-\d\d-\d\d [\d:]+ \(in 300 s\)$/m, 'times for people');
ctl('--text', 'list', 'web', '--state', 'leased');
like($out, qr/^impu +state +lease.*\nsip:\S+ +leased +\S/, 'a table');
ctl('--text', 'ping');
is($out, "the pool manager is there\n", 'ping in text');

# a role's secret

my $secret = $p->dir() . '/secrets/wwsf.secret';
is(ctl('-f', $secret, 'acquire', 'web', 'dave'), 0, 'as wwsf');
is(ctl('-f', $secret, 'pool', 'list'), 1, 'wwsf lists no pools');
like($err, qr/\(DENIED\)/, 'says so');
is(ctl('-f', $p->tmp() . '/nix', 'ping'), 2, 'no such file');
open my $f, '>', $p->tmp() . '/wrong.secret' or die $!;
print $f "wwsf " . 'x' x 20 . "\n";
close $f;
is(ctl('-f', $p->tmp() . '/wrong.secret', 'ping'), 1, 'a wrong secret');
like($err, qr/does not know this secret/, 'says so');

# it goes away

$p->stop();
is(ctl('ping'), 3, 'daemon stopped');

done_testing();

###############################################################################
