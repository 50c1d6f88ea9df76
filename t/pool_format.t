#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# doc/pool-format.md, as another program would use it: a live environment is
# dumped by LMDB's own tool and read by the tables of that page alone.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use lib "$FindBin::Bin/lib";

use ImsPool;

use constant CLOCK_BOOTTIME => 7;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $page = do {
	open my $f, '<', "$FindBin::Bin/../doc/pool-format.md" or die $!;
	local $/;
	<$f>;
};

# sections "### `tree`", each with a table of offset, type, field
my (%table, %size);
my %unpack = (u8 => 'C', u16 => 'S<', u32 => 'L<', u64 => 'Q<');

for my $section (split /^### /m, $page) {
	my ($tree, $part) = $section =~ /^`(\w+)`(, a record$)?/m or next;
	$tree = 'record' if $part;

	while ($section =~ /^\| (\d+) \| (u\d+|\d+ bytes) \| `(\w+)` \|$/mg) {
		my ($offset, $type, $field) = ($1, $2, $3);
		my ($n) = $type =~ /(\d+)/;
		$n /= 8 if $unpack{$type};

		push @{$table{$tree}}, [$offset, $n,
			$unpack{$type} // "a$n", $field];
		$size{$tree} = $offset + $n;
	}
}

my @crc = map {
	my $c = $_;
	$c = $c & 1 ? $c >> 1 ^ 0x82f63b78 : $c >> 1 for 1 .. 8;
	$c;
} 0 .. 255;

sub crc32c {
	my $c = 0xffffffff;
	$c = $crc[($c ^ ord) & 255] ^ $c >> 8 for split //, $_[0];
	return $c ^ 0xffffffff;
}

sub fields {
	my ($tree, $value) = @_;
	return { map {
		my ($offset, $n, $how, $field) = @$_;
		$field => unpack $how, substr $value, $offset, $n;
	} @{$table{$tree}} };
}

my ($wrong, $dir);

# [key, value without its CRC], as often as there are rows
sub rows {
	my ($tree) = @_;

	open my $p, '-|', 'mdb_dump', '-s', $tree, "$dir/current" or die $!;
	my @lines = grep { s/^ (\w*)\n/$1/ } <$p>;
	close $p or die "mdb_dump -s $tree failed";

	my @rows;
	while (my ($k, $v) = splice @lines, 0, 2) {
		$_ = pack 'H*', $_ for $k, $v;
		push @rows, [$k, $v];
		next if $tree eq 'ident';
		my $crc = unpack 'L<', substr $rows[-1][1], -4, 4, '';
		$wrong++ if $crc != crc32c($k . $rows[-1][1]);
	}
	return @rows;
}

# [key, record without its CRC], of all rows of `ident`
sub records {
	my @records;

	for my $row (rows('ident')) {
		my $head = fields('ident', $row->[1]);
		is(unpack('Q', $row->[0]), $head->{first}, 'key of 20 identities');
		is($head->{first} % 20, 0, 'which is a multiple of it');
		is(length $row->[1], 16 + 20 * 200, 'length of their row');
		$wrong++ if $head->{crc}
			!= crc32c($row->[0] . substr $row->[1], 0, 12);

		for my $i (0 .. 19) {
			my $place = substr $row->[1], 16 + 200 * $i, 200;

			if (!($head->{used} >> $i & 1)) {
				$wrong++ if $place =~ /[^\0]/;
				next;
			}

			my $r = fields('record', $place);
			my $n = $size{record} + 16 * ($r->{nsession} || 1);
			my $key = pack 'Q>', $head->{first} + $i;
			my $record = substr $place, 0, $n, '';
			$wrong++ if unpack('L<', substr $place, 0, 4, '')
				!= crc32c($key . $record) || $place =~ /[^\0]/;
			push @records, [$key, $record];
		}
	}
	return @records;
}

###############################################################################

my $p = ImsPool->new();
$dir = $p->dir();

is_deeply([sort keys %table],
	[sort qw/ ident record renewal pool name meta hist feed /], 'tables of the page');

$p->pool('web', 4, 'TTL', 300, 'TTLMAX', 900, 'D', 2, 'MARGIN', 3);
is($p->cmd(qw/ IDENTITY ADD web 0 second@ims.example /, 'Two Names',
	'sip:Second@IMS.example', 'tel:+49-30-1234'), '0000000100000005',
	'one with two IMPUs');

my $first = $p->hash($p->cmd($p->acquire('web', 'alice')));
$p->cmd($p->acquire('web', 'alice', '00000000000000ab'));
Time::HiRes::sleep(0.02);
$p->cmd($p->acquire('web', 'alice', '00000000000000ab'));
my $other = $p->hash($p->cmd($p->acquire('web', 'bob')));
$p->cmd($p->release('web', 'bob', $other->{lease}));
my $third = $p->hash($p->cmd($p->acquire('web', 'carol')));
$p->cmd('REVOKE', 'LEASE', $third->{lease}, 'BAR');
$p->cmd('IDENTITY', 'DISABLE', 'sip:second@ims.example');

# state, and the clock by it

my ($state) = rows('meta');
is($state->[0], 'state', 'the row state');
is(length $state->[1], $size{meta}, 'its length');
my $st = fields('meta', $state->[1]);
is("$st->{magic} $st->{schema}", 'ims-pool 3', 'magic and schema');
is($st->{gone}, 0, 'not gone');
is($st->{given}, 3, 'leases given');

open my $f, '<', '/proc/sys/kernel/random/boot_id' or die $!;
is(unpack('H*', $st->{clock_boot_id}), <$f> =~ s/[-\n]//gr, 'this boot');
my $boottime = Time::HiRes::clock_gettime(CLOCK_BOOTTIME) * 1000;
my $pt = $st->{clock_pt} + $boottime - $st->{clock_boottime};
my $now = $p->hash($p->cmd('SHOW', 'LEASE', $first->{lease}))->{now};
ok(abs($now - $pt) < 5000, 'pool time') or diag("$now $pt");

# pool

my ($row) = rows('pool');
my $pool = fields('pool', $row->[1]);
is(unpack('N', $row->[0]), $pool->{pool}, 'key of a pool');
is(join(' ', @$pool{qw/ ttl ttl_max delay margin core_min identities /}),
	'300000 900000 2000 3000 60 5', 'its figures');
is(substr($row->[1], 88), 'webims.example', 'its texts');
is(join(' ', @$pool{qw/ nname nhome nrealms /}), '3 11 0', 'and lengths');

# renewals, by the page's rule

my %renewal;

for my $row (rows('renewal')) {
	my ($no) = unpack 'Q>', $row->[0];

	while (length $row->[1]) {
		my $r = fields('renewal', substr $row->[1], 0, $size{renewal}, '');
		push @{$renewal{$r->{ident}}}, { %$r, no => $no };
	}
}

is(join(' ', map { scalar @$_ } values %renewal), 1, 'a renewal');
ok($st->{renew_first} <= $renewal{1 << 32 | 1}[0]{no}
	&& $renewal{1 << 32 | 1}[0]{no} <= $st->{renew_last}, 'its commit');

sub max { (sort { $b <=> $a } @_)[0] }

my $added = 0;

sub renewed {
	my ($r, $sessions) = @_;

	for my $one (@{$renewal{$r->{ident}} || []}) {
		next if $one->{no} < $st->{renew_first}
			|| $one->{no} <= $r->{renewed}
			|| $one->{lease} != $r->{lease};

		for my $s (grep { $_->[0] == $one->{sid} } @$sessions) {
			$added++;
			$s->[1] = max($s->[1], $one->{end});
			$r->{end} = max($r->{end}, $s->[1]);
			$r->{promised} = max($r->{promised}, $r->{end});
			$r->{rest} = max($r->{rest},
				$r->{promised} + $r->{linger});
		}
	}
}

# each identity: the page's way to its state is the daemon's

my %shown = (0 => 0);
my $n = 0;

for my $row (records()) {
	my $r = fields('record', $row->[1]);
	my $room = $r->{nsession} || 1;

	$n++;
	is(unpack('Q>', $row->[0]), $r->{ident}, "key of identity $n");
	is(length $row->[1], $size{record} + 16 * $room, 'its length');

	my @session = map { [unpack 'Q<2', substr $row->[1],
		$size{record} + 16 * $_, 16] } 0 .. $r->{nsession} - 1;
	my $was = $r->{end};
	renewed($r, \@session);
	ok($r->{end} > $was, 'a renewed one') if $renewal{$r->{ident}};

	my ($name) = grep { $_->[0] eq $row->[0] } rows('name');
	my $h = fields('name', $name->[1]);
	my $at = $size{name} + 4 * $h->{nimpu};
	my $impi = substr $name->[1], $at, $h->{nimpi};
	my $show = $p->hash($p->cmd('SHOW', 'IMPI', $impi));

	my $is = $r->{flags} & 7 ? 'off'
		: $now < $r->{end} && $r->{lease} > $pool->{fence} ? 'leased'
		: $r->{flags} & 8 ? 'off'
		: $now < $r->{rest} ? 'resting' : 'free';

	is($is, $show->{state}, "state: $is");
	is(join(' ', @$r{qw/ start end promised rest /}),
		join(' ', @$show{qw/ start end promised rest /}), 'times');
	is($r->{lease} ? sprintf('%016x-%016x', @$r{qw/ ident lease /}) : '',
		$show->{lease}, 'lease');
	is($r->{start_wall}, $show->{started}, 'wall time');

	next if $r->{ident} != (1 << 32 | 1);

	is(join(' ', map { sprintf '%016x', $_->[0] } @session),
		'0000000000000001 00000000000000ab', 'sessions');
	is($session[1][1], $r->{end}, 'the renewed one ends last');
}

is($n, 5, 'all identities');
is($st->{records}, 5, 'and so many are told');

# names

my ($two) = grep { unpack('Q>', $_->[0]) == (1 << 32 | 5) } rows('name');
my $h = fields('name', $two->[1]);
my @len = unpack 'x' . $size{name} . '(S<)4', $two->[1];
my $text = substr $two->[1], $size{name} + 8;

is(join('|', unpack join('', map { "a$_" } @$h{qw/ nimpi ndisplay nuser /},
	map { $_ == 65535 ? 0 : $_ } @len), $text),
	'second@ims.example|Two Names||sip:Second@IMS.example'
	. '|sip:Second@ims.example|tel:+49-30-1234|tel:+49301234', 'names');

my %uri = map { $_->[0] => [unpack 'Q<L<L<', $_->[1]] } rows('uri');
is_deeply($uri{'sip:second@ims.example'}, [1 << 32 | 5, 0, $pool->{pool}],
	'uri: an IMPU, folded');
is_deeply($uri{"\0second\@ims.example"}, [1 << 32 | 5, 0, $pool->{pool}],
	'uri: an IMPI');

# what has ended

my %hist = map { my $r = fields('hist', $_->[1]);
	sprintf('%016x-%016x', @$r{qw/ ident lease /}) => $r } rows('hist');
is_deeply({ map { $_ => $hist{$_}{reason} } keys %hist },
	{ $other->{lease} => 2, $third->{lease} => 4 }, 'history');

my @feed = map { fields('feed', $_->[1]) } rows('feed');
is_deeply([map { sprintf '%016x-%016x %d', @$_{qw/ ident lease reason /} }
	grep { $_->{reason} != 3 } @feed],
	["$other->{lease} 2", "$third->{lease} 4"], 'feed');

is(scalar(rows('avail')), 5, 'avail: one row an identity');
is($added, 1, 'one renewal counted');
is($wrong // 0, 0, 'every CRC is right');

# the trees are all named

open my $s, '-|', 'mdb_stat', '-a', "$dir/current" or die $!;
my @trees = map { /^Status of (\w+)$/ && $1 ne 'Main' ? $1 : () } <$s>;
close $s;
cmp_ok(scalar @trees, '>', 10, 'trees');
is_deeply([grep { $page !~ /^\|[^|]*`$_`/m } @trees], [], 'all told');

$p->stop();
unlike($p->log(), qr/\[(?:alert|emerg)\]|runtime error|AddressSanitizer/,
	'no alerts');

done_testing();
