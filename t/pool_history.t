#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: history, from the database, as a file and to syslog.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX qw/ strftime /;
use Socket;
use Time::HiRes qw/ time sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my ($p, $q, $h, $status, $out, $err, $j);

sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }
sub json { ctl(@_); return $j = eval { decode_json($out) } || []; }
sub acquire { return $h = $p->hash($p->cmd($p->acquire(@_))); }

sub lines {
	my ($file) = @_;
	open my $f, '<', $file or return;
	return map { decode_json($_) } <$f>;
}

sub wait_for {
	my ($what) = @_;
	for (1 .. 200) {
		return 1 if $what->();
		sleep 0.05;
	}
	return 0;
}

$p = ImsPool->new();
$p->pool('web', 20, 'TTL', 600);
my $log = $p->dir() . '/history.log';
my $t0 = time();

# one identity, two leases

my $lease = acquire('web', 'alice')->{lease};
my ($impi, $impu) = ($h->{impi}, $h->{impu}[0]);
is_deeply([map { "$_->{reason} $_->{lease}" } @{json('history', '--impu',
	$impu)}], ["live $lease"], 'a live one');
cmp_ok(abs($j->[0]{from} / 1000 - $t0), '<', 30, 'from');
cmp_ok(abs($j->[0]{to} - $j->[0]{from} - 600000), '<', 5, 'to');
is_deeply([@{$j->[0]}{qw/ impi impu pool key issuer /}],
	[$impi, $impu, 'web', 1, 0], 'what');

$p->cmd($p->release('web', 'alice', $lease));
sleep 0.01;
acquire('web', 'alice');
is_deeply([map { $_->{reason} } @{json('history', '--impi', $impi)}],
	[qw/ released live /], 'by IMPI, in order');
is_deeply([map { $_->{reason} } @{json('history', '--lease', $lease)}],
	['released'], 'by lease');
my $user = $j->[0]{user};
like($user, qr/^[\w-]{22}$/, 'a hash');

# at, from, to

my $mid = $j->[0]{from};
for my $t (
	[['--at', int($t0) - 3600], 'long before', 0],
	[['--at', int($t0) + 300], 'the second', 1],
	[['--at', int($t0) + 3600], 'it is live, whatever the time', 1],
	[['--to', int($t0) - 3600], 'to', 0],
	[['--from', int($t0) - 3600], 'from', 2],
	[['--from', int($t0) - 9, '--to', int($t0) + 9], 'between', 2],
	[['--at', strftime('%Y-%m-%d %H:%M:%S', localtime($t0 + 60))], 'local', 1],
	[['--at', strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($t0 + 60))], 'UTC', 1],
	[['--at', strftime('%Y-%m-%dT%H:%M:%S+01:00', gmtime($t0 + 3660))],
		'a zone', 1],
	[['--at', strftime('%Y-%m-%dT%H:%M:%S-01:00', gmtime($t0 - 3600 - 3600))],
		'another', 0],
	[['--at', sprintf('%s.%03dZ', strftime('%Y-%m-%dT%H:%M:%S',
		gmtime($mid / 1000)), $mid % 1000)], 'the millisecond', 1])
{
	is(scalar @{json('history', '--impu', $impu, @{$t->[0]})}, $t->[2],
		$t->[1]);
	is($status, $t->[2] ? 0 : 1, "$t->[1]: status");
}

for my $at ('yesterday', '2026-13-01', '2026-01-01 10:00:00.5x',
	'2026-01-01T10:00+1', '-5')
{
	is(ctl('history', '--impu', $impu, "--at=$at"), 2, "no time: $at");
}

for my $args ([], ['--realm', 'x'], ['--impu', 'a', '--impi', 'b'],
	['--impu', 'a', '--impu', 'b'], ['--impu', 'a', '--at', 1, '--to', 2])
{
	is(ctl('history', @$args), 2, "usage: @$args");
}

is(ctl('history', '--impu', 'sip:nix@ims.example'), 1, 'no such identity');
is(ctl('history', '--lease', '0000000100000001-0000010000000099'), 1,
	'no such lease');
is(ctl('history', '--lease', 'nix'), 1, 'no lease');

# users

is_deeply([map { $_->{was} } @{json('history', '--impu', $impu, '--user',
	'alice', '--realm', 'site')}], [qw/ yes yes /], 'it was alice');
is_deeply([map { $_->{was} } @{json('history', '--impu', $impu, '--user',
	'bob', '--realm', 'site')}], [qw/ no no /], 'not bob');
is(json('history', '--lease', $lease, '--user', 'alice', '--realm',
	'other')->[0]{was}, 'no', 'nor alice of another realm');
acquire('web', 'bob');
is_deeply([map { "$_->{impu} $_->{reason}" } @{json('history', '--user', 'bob',
	'--realm', 'site')}], ["$h->{impu}[0] live"], 'all of bob');
is(scalar @{json('history', '--user', 'alice', '--realm', 'site')}, 2,
	'all of alice');
is(scalar @{json('history', '--user', 'nobody', '--realm', 'site')}, 0,
	'all of nobody');

# many leases: over several answers

for my $i (1 .. 230) {
	my $l = acquire('web', 'bob')->{lease};
	$p->cmd($p->release('web', 'bob', $l));
}

is(scalar @{json('history', '--impu', $h->{impu}[0])}, 230, '230 leases');
is(scalar @{json('history', '--user', 'bob', '--realm', 'site')}, 230,
	'of bob as well');
ctl('--text', 'history', '--impu', $impu);
like($out, qr/^from +to +reason +impu.*\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d /,
	'a table');

# a key that was dropped

ctl('key', 'rotate');
$p->cmd('REVOKE', 'POOL', 'web');
is(ctl('key', 'drop', 1), 0, 'key dropped');
is(json('history', '--lease', $lease, '--user', 'alice', '--realm',
	'site')->[0]{was}, 'unknown', 'nobody knows');

# the file

my @lines = lines($log);
is(scalar(grep { $_->{event} eq 'begin' } @lines), 232, 'begins');
is_deeply([map { $lines[0]{$_} } qw/ event lease pool impi user key /],
	['begin', $lease, 'web', $impi, $user, 1], 'the first');
is_deeply($lines[0]{impus}, [$impu], 'a list of IMPUs');
like($lines[0]{$_}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, $_)
	for qw/ time from /;
is("$lines[1]{event} $lines[1]{reason} $lines[1]{lease}",
	"end released $lease", 'the second');
is($lines[1]{from}, $lines[0]{from}, 'from');
ok(!exists $lines[0]{name}, 'no names');
like($p->cmd('INFO'), qr/^history_lost:0\r$/m, 'nothing lost');
is($p->hash($p->cmd('CHECK'))->{faults}, 0, 'check');

# a file that cannot be written

$p->stop();
($status, $log) = $p->refused('--history', '/nix/nix.log');
is($status, 1, 'no such directory');
like($log, qr/\[emerg\].*nix.log/, 'says so');
($status) = $p->refused('--history', 'syslog:nix');
is($status, 1, 'no such facility');
($status) = $p->refused('--history-keep', 'x');
is($status, 2, 'history-keep');

SKIP: {
	skip 'no /dev/full', 3 unless -w '/dev/full';

	$p->start('--history', '/dev/full');
	is(acquire('web', 'alice')->{error} // '', '', 'a full disk is no obstacle');
	ok(wait_for(sub { $p->cmd('INFO') =~ /^history_lost:[1-9]/m }), 'counted');
	like($p->log(), qr/\[alert\].*history log: No space/, 'told');
	$p->stop();
}

# with names, strange ones too

$log = $p->tmp() . '/named.log';
$p->start('--history', $log, '--history-users', '--history-keep', '0');
acquire('web', "\"\\\x01\xff\x7f");
acquire('web', "Zw\xc3\xb6lf");
@lines = grep { $_->{event} eq 'begin' } lines($log);
is($lines[0]{name}, "\"\\\x01\xff\x7f", 'bytes');
is($lines[1]{name}, "Zw\x{f6}lf", 'UTF-8');
is($lines[1]{realm}, 'site', 'realm');
$p->stop();

# syslog

my $sock = $p->tmp() . '/log.sock';
my $sys = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $sock) or die $!;
$p->start('--history', "syslog:local3\@$sock");
$lease = acquire('web', 'dave')->{lease};
my $line = '';
eval {
	local $SIG{ALRM} = sub { die };
	alarm 10;
	$sys->recv($line, 4096);
	alarm 0;
};
like($line, qr/^<158>ims-poolmgr\[\d+\]: \{"time":.*"lease":"$lease"/,
	'a datagram');
close $sys;
unlink $sock;
is(ref $p->cmd($p->acquire('web', 'erin')), 'ARRAY',
	'without syslog leases are given');
ok(wait_for(sub { $p->cmd('INFO') =~ /^history_lost:[1-9]/m }), 'and counted');
$p->stop();

# none

$p->start('--history', 'none');
acquire('web', 'frank');
is(json('history', '--lease', $h->{lease})->[0]{reason}, 'live',
	'the database has it anyway');

done_testing();

###############################################################################
