#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: a URI is one identity's in all pools, however it is spelt,
# however it comes in, and until the identity that has it has rested.

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

my ($p, $r, $status, $out, $err);

$p = ImsPool->new();
$p->pool($_, 0, 'TTL', 2, 'D', 1, 'MARGIN', 1) for qw/ one two /;

is(bring('one', "a\@ims.example\t\tsip:Alice\@ims.example\ttel:+1-555-0100\n"
	. "b\@ims.example\t\tsip:b\@ims.example\n"), 2, 'two identities');

# a second pool's row with what the first has: nothing of it gets in

for (
	['the same IMPU', 'z@ims.example', 'sip:Alice@ims.example', 'IMPU'],
	['another case', 'z@ims.example', 'sip:ALICE@IMS.EXAMPLE', 'IMPU'],
	['sips', 'z@ims.example', 'sips:alice@ims.example', 'IMPU'],
	['a port', 'z@ims.example', 'sip:alice@ims.example:5060', 'IMPU'],
	['a parameter', 'z@ims.example', 'sip:alice@ims.example;x=y', 'IMPU'],
	['an escape', 'z@ims.example', 'sip:%61lice@ims.example', 'IMPU'],
	['the number', 'z@ims.example', 'tel:+15550100', 'IMPU'],
	['other separators', 'z@ims.example', 'tel:+1(555)01.00', 'IMPU'],
	['as a sip URI', 'z@ims.example',
		'sip:+1-555-0100@ims.example;user=phone', 'IMPU'],
	['the same IMPI', 'a@ims.example', 'sip:z@ims.example', 'IMPI'],
) {
	my ($name, $impi, $impu, $what) = @$_;

	like(bring('two', "y\@ims.example\t\tsip:y\@ims.example\n"
		. "$impi\t\t$impu\n"), qr/^-DUPLICATE 2 $what taken/, "import, $name");
	($status, $out, $err) = $p->run_ctl('identity', 'add', 'two', $impi,
		'--impu', $impu);
	is($status, 1, "identity add, $name");
	like($err, qr/$what taken/, 'says so');
}

is(ref $p->cmd('SHOW', 'IMPI', 'y@ims.example'), '', 'nothing got in');
is($p->hash($p->cmd('POOL', 'STAT', 'two'))->{total}, 0, 'the pool is empty');

# others are others

is(bring('two', "c\@ims.example\t\tsip:alice\@other.example\n"
	. "d\@ims.example\t\ttel:+15550101\n"), 2, 'what only looks like it');

# leased, removed: taken until it has rested, then anybody's

my $g = $p->hash($p->cmd($p->acquire('one', 'u')));
is($g->{impi}, 'a@ims.example', 'leased');
$p->run_ctl('identity', 'remove', 'sip:alice@ims.example');
like(bring('two', "e\@ims.example\t\tsip:alice\@ims.example\n"),
	qr/^-DUPLICATE 1 IMPU taken/, 'removed: taken while it rests');
like(bring('one', "a\@ims.example\t\tsip:e\@ims.example\n"),
	qr/^-DUPLICATE 1 IMPI taken/, 'in its own pool, too');

my $end = time() + 20;
$r = '';

while (time() < $end) {
	$r = bring('two', "e\@ims.example\t\tsip:alice\@ims.example\n");
	last unless $r =~ /^-/;
	sleep 0.2;
}

is($r, 1, 'rested: in another pool');
cmp_ok(now(), '>=', $g->{end} + 2000, 'not before');
is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');

done_testing();

###############################################################################

# the result of the command that fails, or of the last; BUSY is waited for

sub bring {
	my ($pool, $rows) = @_;

	my $r;

	for (1 .. 200) {
		my $no = $p->cmd('IMPORT', 'BEGIN', $pool);
		$r = $no;

		if ($no !~ /^-/) {
			$r = $p->cmd('IMPORT', 'ROWS', $no, 1, $rows);
			$r = $p->cmd('IMPORT', 'END', $no) unless $r =~ /^-/;
		}

		last unless $r =~ /^-BUSY/;
		sleep 0.05;
	}

	return $r;
}


sub now {
	return $p->hash($p->cmd('SHOW', 'IMPU', 'sip:alice@ims.example'))->{now};
}

###############################################################################
