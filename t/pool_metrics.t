#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: METRICS, as Prometheus reads it: what was done is what is
# counted, once; families whole; every name in doc/operator.md.

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
my (%type, %value, @bad);

# text format 0.0.4: HELP, TYPE, then all samples of the family
sub metrics {
	my ($text) = @_;
	my $family = '';

	%type = %value = @bad = ();

	for my $line (split /\n/, $text) {
		if ($line =~ /^# HELP (\w+) \S.*\.$/) {
			push @bad, "$line: again" if $type{$1};
			($family, $type{$1}) = ($1, '-');
		} elsif ($line =~ /^# TYPE (\w+) (counter|gauge|histogram)$/
			&& $1 eq $family)
		{
			$type{$1} = $2;
		} elsif ($line =~ /^((\w+?)(?:_bucket|_sum|_count)?
				(?:\{(?:\w+="[^"\\]*",?)+\})?)\ ([\d.e+-]+)$/x
			&& ($2 eq $family || $line =~ /^\Q$family\E[ {]/))
		{
			push @bad, "$line: again" if exists $value{$1};
			$value{$1} = $3;
		} else {
			push @bad, $line;
		}
	}

	return \%value;
}

sub ctl_metrics {
	my ($status, $out, $err) = $p->run_ctl('metrics');
	is("$status$err", '0', 'metrics');
	return metrics($out);
}

sub commands {
	my ($command, $result) = @_;
	return $value{sprintf 'ims_pool_commands_total{command="%s",result="%s"}',
		$command, $result} // 0;
}

sub identities {
	return join ' ', map {
		$value{qq[ims_pool_identities{pool="$_[0]",state="$_"}]} // '-'
	} qw/ free leased resting off /;
}

$p->pool('web', 3, 'TTL', 300, 'TTLMAX', 600, 'D', 1, 'MARGIN', 1);
$p->pool('more', 1200);
$p->pool('empty', 0);

my $h = $p->hash($p->cmd($p->acquire('web', 'u1')));
$p->cmd($p->acquire('web', $_)) for qw/ u1 u2 u3 u4 /;
$p->cmd($p->renew('web', 'u1', $h->{lease}));
$p->cmd($p->release('web', 'u1', $h->{lease}));
$p->cmd($p->renew('web', 'u1', $h->{lease}));
$p->cmd('NIX');
$p->cmd('POOL', 'STAT', 'more');

ctl_metrics();
is_deeply(\@bad, [], 'every line is understood');
is_deeply([grep { $_ eq '-' } values %type], [], 'every family has a type');

is(commands('acquire', 'ok'), 4, 'acquired');
is(commands('acquire', 'exhausted'), 1, 'exhausted');
is(commands('renew', 'ok'), 1, 'renewed');
is(commands('renew', 'ended'), 1, 'not renewed');
is(commands('release', 'ok'), 1, 'released');
is(commands('refused', 'other'), 1, 'refused before it ran');
is(commands('import end', 'ok'), 2, 'answered by a job');
is(commands('pool stat', 'ok'), 1, 'and by one that reads');

is(identities('web'), '0 2 1 0', 'identities of a pool');
is(identities('more'), '1200 0 0 0', 'of a large one, in slices');
is(identities('empty'), '0 0 0 0', 'of an empty one');
is($value{'ims_pool_next_free_seconds{pool="more"}'}, '0.000', 'free now');
cmp_ok($value{'ims_pool_next_free_seconds{pool="web"}'}, '>', 200, 'a wait');
is($value{ims_pool_leases_total}, 3, 'leases');
cmp_ok($value{ims_pool_resident_bytes}, '>', 1e6, 'memory');
cmp_ok($value{ims_pool_map_used_bytes}, '>', 1e5, 'database');

for my $name (grep { $type{$_} eq 'histogram' } keys %type) {
	my @buckets = sort { $a->[0] <=> $b->[0] } map {
		/^${name}_bucket\{le="([^"]+)"\}/
			? [$1 eq '+Inf' ? 9**9**9 : $1, $value{$_}] : ()
	} keys %value;

	my ($last, $falls) = (0, 0);
	for (@buckets) {
		$falls++ if $_->[1] < $last;
		$last = $_->[1];
	}

	is($falls, 0, "$name: cumulative");
	is($last, $value{"${name}_count"}, "$name: the last has all");
	cmp_ok($value{"${name}_sum"}, '>', 0, "$name: sum");
}

# counters never fall, and grow by what is done

my $commits = $value{ims_pool_commits_total};
$p->cmd($p->renew('web', 'u2', $h->{lease}));
$p->cmd($p->acquire('more', 'u2'));
ctl_metrics();
is(commands('renew', 'ended'), 2, 'one more');
cmp_ok($value{ims_pool_commits_total}, '>', $commits, 'one commit more');
is(commands('metrics', 'ok'), 1, 'metrics, too');

# a file, replaced as a whole

my $file = $p->tmp() . '/ims.prom';
my ($status, $out, $err) = $p->run_ctl('metrics', $file);
is("$status$out$err", '0', 'into a file');
is(sprintf('%04o', (stat $file)[2] & 07777), '0644', 'for everybody to read');
open my $f, '<', $file or die $!;
my $text = do { local $/; <$f> };
ok(metrics($text)->{ims_pool_uptime_seconds} >= 0, 'whole');
is_deeply([glob("$file.*")], [], 'nothing beside it');
($status, $out, $err) = $p->run_ctl('metrics', $p->tmp() . '/none/x');
is($status, 1, 'no such folder');
like($err, qr/none\/x.*No such file/, 'and why');

# not for everybody

my $c = $p->connect();
is($c->cmd('AUTH', $p->secret('edge')), '+OK', 'an edge');
like($c->cmd('METRICS'), qr/^-DENIED/, 'may not');

# the document has them all, and no others

open $f, '<', "$FindBin::Bin/../doc/operator.md" or die $!;
my %told = map { $_ => 1 } do { local $/; <$f> } =~ /^\| `(ims_pool_\w+)/mg;
is_deeply([sort keys %told], [sort keys %type], 'doc/operator.md');

$p->stop();
unlike($p->log(), qr/\[(?:alert|emerg)\]|runtime error|AddressSanitizer/,
	'no alerts');

done_testing();
