#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: the commands of the call flow and all their errors, as seen
# from the socket; administration, import, holds.

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
my ($r, $h, $g, @cmd);

# pools

is($p->cmd('POOL', 'CREATE', 'a', 'ims.example', 'TTL', 600, 'REALMS',
	'site,other'), '+OK', 'pool create');
like($p->cmd('POOL', 'CREATE', 'a', 'ims.example'), qr/^-EXISTS/,
	'pool create again');
like($p->cmd('POOL', 'CREATE', "b\r\n+OK", 'ims.example'), qr/^-BADARG/,
	'pool with a bad name');
like($p->cmd('POOL', 'CREATE', '', 'ims.example'), qr/^-BADARG/,
	'pool without a name');
like($p->cmd('POOL', 'CREATE', 'b', 'not a domain'), qr/^-BADARG/,
	'pool with a bad home');
like($p->cmd('POOL', 'CREATE', 'b', 'ims.example', 'TTL'),
	qr/^-BADARG an option/, 'option without a value');
like($p->cmd('POOL', 'CREATE', 'b', 'ims.example', 'TTL', 0),
	qr/^-BADARG a time/, 'ttl 0');
like($p->cmd('POOL', 'CREATE', 'b', 'ims.example', 'TTL', -1),
	qr/^-BADARG a time/, 'ttl -1');
like($p->cmd('POOL', 'CREATE', 'b', 'ims.example', 'TTL', '99999999999999'),
	qr/^-BADARG a time/, 'ttl for ever');
like($p->cmd('POOL', 'CREATE', 'b', 'ims.example', 'NIX', 1),
	qr/^-BADARG no such option/, 'unknown option');
like($p->cmd('POOL', 'CREATE', 'b', 'ims.example', 'PER', 'nix'),
	qr/^-BADARG PER/, 'per what');
like($p->cmd('POOL', 'ALTER', 'a', 'PER', 'session'), qr/^-BADARG .*PER/,
	'per cannot be altered');
like($p->cmd('POOL', 'STAT', 'nix'), qr/^-NOPOOL/, 'stat of no pool');
like($p->cmd('POOL', 'ALTER', 'nix', 'TTL', 60), qr/^-NOPOOL/,
	'alter of no pool');
is($p->cmd('POOL', 'ALTER', 'a', 'D', 32, 'MARGIN', 20), '+OK', 'alter');

$r = $p->cmd('POOL', 'LIST');
$h = $p->hash($r->[0]);
is(@$r, 1, 'one pool');
is("$h->{name} $h->{home} $h->{realms} $h->{ttl} $h->{d} $h->{margin}",
	'a ims.example site,other 600000 32000 20000', 'as it was made');

# import

sub import_rows {
	my ($pool, $rows, $line) = @_;

	my $c = $p->connect();
	my $no = $c->cmd('IMPORT', 'BEGIN', $pool);
	return $no if $no =~ /^-/;
	$r = $c->cmd('IMPORT', 'ROWS', $no, $line // 1, $rows);
	return $r if $r =~ /^-/;
	return $c->cmd('IMPORT', 'END', $no);
}

# what was refused is being taken out: BUSY until it is
sub import_wait {
	for (1 .. 200) {
		$r = import_rows(@_);
		last if $r !~ /^-BUSY/;
		select undef, undef, undef, 0.02;
	}
	return $r;
}

my $row = "web-%d\@ims.example\tWeb %d\tsip:web-%d\@ims.example\n";
my $three = join '', map { sprintf $row, $_, $_, $_ } 1 .. 3;

is(import_wait('a', $three), 3, 'import');
is(import_wait('a', "x\@ims.example\t\tsip:x1\@ims.example\ttel:+15550100\n"),
	1, 'one with two IMPUs and no display name');
like(import_wait('nix', $three), qr/^-NOPOOL/, 'import into no pool');
like(import_wait('a', $three), qr/^-DUPLICATE 1 IMPI taken/, 'import again');
like(import_wait('a', "y\@ims.example\t\tsip:WEB-2\@IMS.example\n", 17),
	qr/^-DUPLICATE 17 IMPU taken/, 'the same IMPU, folded');
like(import_wait('a', "y\@ims.example\t\ttel:+1-555-0100\n"),
	qr/^-DUPLICATE 1 IMPU taken/, 'the same number with separators');
like(import_wait('a', "y\@ims.example\t\tsip:y\@ims.example\n"
	. "z\@ims.example\t\tsip:y\@ims.example\n"), qr/^-DUPLICATE 2/,
	'twice in one import');
like(import_wait('a', "y\@ims.example\t\tsip:y\@ims.example\n"
	. "z\@ims.example\t\tsip:z\@ims.example\nz\n"), qr/^-BADROW 3/,
	'a bad third row');
like(import_wait('a', "y y\t\tsip:y\@ims.example\n"), qr/^-BADROW 1/,
	'bad IMPI');
like(import_wait('a', "y\@ims.example\t\thttp://y\@ims.example\n"),
	qr/^-BADROW 1/, 'bad IMPU');
like(import_wait('a', "y\@ims.example\t\tsip:y\@ims.example"),
	qr/^-BADROW 1/, 'row without an end');
like(import_wait('a', "y\@ims.example\t\n"), qr/^-BADROW 1/, 'no IMPU');
is(import_wait('a', "y\@ims.example\t\tsip:y\@ims.example\n"), 1,
	'what was taken out can come again');
like($p->cmd('IMPORT', 'ROWS', 1, 1, $three), qr/^-NOTFOUND/,
	'rows of a finished import');
like($p->cmd('IMPORT', 'END', 99), qr/^-NOTFOUND/, 'end of no import');

my $c = $p->connect();
my $no = $c->cmd('IMPORT', 'BEGIN', 'a');
like($p->cmd('IMPORT', 'BEGIN', 'a'), qr/^-BUSY/, 'a second import');
like($p->cmd('IMPORT', 'ROWS', $no, 1, $three), qr/^-NOTFOUND/,
	'rows from another connection');
is($c->cmd('IMPORT', 'ROWS', $no, 1,
	"t\@ims.example\t\tsip:t\@ims.example\n"), 1, 'row');
is($c->cmd('IMPORT', 'ABORT', $no), 0, 'abort');
like($p->cmd('SHOW', 'IMPI', 't@ims.example'), qr/^-NOTFOUND/,
	'nothing of it is left');

$no = $c->cmd('IMPORT', 'BEGIN', 'a');
like($c->cmd('IMPORT', 'ROWS', $no, 1, "x\n" x 2001), qr/^-BADARG more/,
	'too many rows at once');
is($c->cmd('IMPORT', 'ROWS', $no, 1,
	"t\@ims.example\t\tsip:t\@ims.example\n"), 1, 'row, then the end');
undef $c;
is(import_wait('a', "t\@ims.example\t\tsip:t\@ims.example\n"), 1,
	'import left by its connection is taken out');

$h = $p->hash($p->cmd('POOL', 'STAT', 'a'));
is("$h->{total} $h->{free} $h->{leased} $h->{identities}", '6 6 0 6', 'stat');

# acquire

$g = $p->hash($r = $p->cmd(@cmd = $p->acquire('a', 'alice')));
is(join(' ', map { $r->[$_ * 2] } 0 .. @$r / 2 - 1),
	'nonce lease sid holder pool home impi impu display now end ttl state',
	'names in their order');
is($g->{nonce}, $cmd[5], 'nonce comes back');
like($g->{lease}, qr/^[0-9a-f]{16}-[0-9a-f]{16}$/, 'lease');
is($g->{sid}, '0000000000000001', 'sid');
like($g->{holder}, qr/^[A-Za-z0-9_-]{22}$/, 'holder tag');
is("$g->{pool} $g->{home} $g->{impi} $g->{impu}[0] $g->{display} $g->{state}",
	'a ims.example web-1@ims.example sip:web-1@ims.example Web 1 new',
	'the rest of it');
is($g->{ttl}, 600000, 'ttl');
is($g->{end} - $g->{now}, 600000, 'end');

$h = $p->hash($p->cmd($p->acquire('a', 'alice')));
is("$h->{state} $h->{lease} $h->{holder}",
	"same $g->{lease} $g->{holder}", 'the same user: the same lease');

$h = $p->hash($p->cmd($p->acquire('a', 'alice', undef, realm => 'other')));
is($h->{state}, 'new', 'the same name in another realm');
isnt($h->{holder}, $g->{holder}, 'and another holder');

like($p->cmd($p->acquire('a', 'alice', undef, realm => 'third')),
	qr/^-DENIED/, 'realm not of the pool');
like($p->cmd($p->acquire('nix', 'alice')), qr/^-NOPOOL/, 'no pool');
like($p->cmd($p->acquire("a\r\n", 'alice')), qr/^-NOPOOL/, 'CR LF in pool');

# malformed arguments

for my $t (
	['sid', sid => '1'], ['sid', sid => '0' x 16], ['sid', sid => 'g' x 16],
	['sid', sid => '1' x 17], ['sid', sid => ' ' . '1' x 15],
	['nonce', nonce => ''], ['nonce', nonce => '1' x 31],
	['nonce', nonce => 'x' x 32], ['realm', realm => ''],
	['realm', realm => 'x' x 256], ['realm', realm => "a\0b"],
	['user', user => ''], ['user', user => 'x' x 1025],
	['user', user => 'x' x 60000],
	['deadline', deadline => 'x'], ['deadline', deadline => -1],
	['deadline', deadline => '18446744073709551616'])
{
	my ($word, $k, $v) = @$t;
	my %o = ($k => $v);
	my $user = exists $o{user} ? delete $o{user} : 'u';
	my $sid = delete $o{sid};

	like($p->cmd($p->acquire('a', $user, $sid, %o)), qr/^-BADARG $word/,
		"bad $word: " . substr($v, 0, 20));
}

# deadlines

like($p->cmd($p->acquire('a', 'late', undef, deadline => 1)), qr/^-LATE/,
	'deadline long past');
like($p->cmd($p->acquire('a', 'late', undef,
	deadline => $p->deadline(-0.001))), qr/^-LATE/, 'deadline just past');
like($p->cmd('SHOW', 'USER', 'a', 'site', 'late'), qr/^-NOTFOUND/,
	'nothing was done');
is(ref $p->cmd($p->acquire('a', 'alice', undef, deadline => 0)), 'ARRAY',
	'deadline 0 of an admin: none');

# names are bytes

for my $user ("a\r\n-ENDED\r\n", "nul\0", "nul\0\0", "nul", "x" x 1024) {
	$h = $p->hash($p->cmd($p->acquire('a', $user)));

	if ($user eq "x" x 1024) {
		like($h->{error}, qr/^-EXHAUSTED \d+$/, 'the seventh of six');
		next;
	}

	(my $name = $user) =~ s/([^a-z-])/sprintf '\x%02x', ord $1/gei;
	is($h->{state}, 'new', "user $name");
}

# exhausted: seconds until one is free

my $stat = sub { $p->hash($p->cmd('POOL', 'STAT', 'a'))->{next_free} };
my $before = $stat->();
my ($s) = $p->cmd($p->acquire('a', 'late')) =~ /^-EXHAUSTED (\d+)$/;
my $after = $stat->();
cmp_ok($s, '>', 600, 'exhausted for longer than a ttl');
cmp_ok($s, '<=', 652, 'and no longer than ttl, D and margin');
ok($before >= $s && $s >= $after && $after > 600, 'stat says the same')
	or diag("$before, $s, $after");

# renew

$h = $p->hash($p->cmd(@cmd = $p->renew('a', 'alice', $g->{lease})));
is("$h->{state} $h->{lease} $h->{nonce}", "same $g->{lease} $cmd[6]", 'renew');
cmp_ok($h->{end}, '>=', $g->{end}, 'end is not earlier');

(my $other = $g->{lease}) =~ s/.$/f/;

for my $t (
	['another user', 'a', 'bob', $g->{lease}],
	['another sid', 'a', 'alice', $g->{lease}, '2' x 16],
	['another lease', 'a', 'alice', $other],
	['another realm', 'a', 'alice', $g->{lease}, undef, realm => 'other'])
{
	my ($name, @args) = @$t;
	like($p->cmd($p->renew(@args)), qr/^-ENDED/, "renew: $name");
	like($p->cmd($p->release(@args)), qr/^-ENDED/, "release: $name");
}

like($p->cmd($p->renew('nix', 'alice', $g->{lease})), qr/^-NOPOOL/,
	'renew: no pool');
like($p->cmd($p->renew('a', 'alice', 'x')), qr/^-BADARG lease/,
	'renew: no lease');
like($p->cmd($p->renew('a', 'alice', uc $other)), qr/^-BADARG lease/,
	'renew: a lease has one text');
like($p->cmd($p->renew('a', 'alice', $g->{lease}, undef, deadline => 5)),
	qr/^-LATE/, 'renew: late');

# release

$h = $p->hash($p->cmd(@cmd = $p->release('a', 'alice', $g->{lease})));
is("$h->{nonce} $h->{lease} $h->{ended}", "$cmd[6] $g->{lease} 1", 'release');
like($p->cmd($p->release('a', 'alice', $g->{lease})), qr/^-ENDED/,
	'release again');
like($p->cmd($p->renew('a', 'alice', $g->{lease})), qr/^-ENDED/,
	'renew of a released one');
like($p->cmd($p->acquire('a', 'dave')), qr/^-EXHAUSTED/,
	'it rests for everybody else');

$h = $p->hash($p->cmd($p->acquire('a', 'alice')));
is("$h->{state} $h->{impi}", 'returned web-1@ims.example',
	'the last holder comes back to it');
isnt($h->{lease}, $g->{lease}, 'with another lease');

# reports

$g = $h;
$h = $p->hash($p->cmd('SHOW', 'LEASE', $g->{lease}));
my $rest = $h->{rest};

is($p->cmd('REPORT', $g->{lease}, 0, 'ff', $h->{now}), '+OK', 'report, short');
is($p->hash($p->cmd('SHOW', 'LEASE', $g->{lease}))->{rest}, $rest,
	'rest does not fall');
is($p->cmd('REPORT', $g->{lease}, 65535, 'f' x 16, $rest + 100000), '+OK',
	'report, long');
is($p->hash($p->cmd('SHOW', 'LEASE', $g->{lease}))->{rest},
	$rest + 100000 + 20000, 'rest rises, with the margin');
is($p->cmd('REPORT', $g->{lease}, 1, 1, '18446744073709551615'), '+OK',
	'report for ever');
cmp_ok($p->hash($p->cmd('SHOW', 'LEASE', $g->{lease}))->{rest}, '<=',
	$h->{now} + 7 * 86400000 + 60000, 'a week at most');

for my $t (['x', 1, 1, 1], [$g->{lease}, 65536, 1, 1],
	[$g->{lease}, 'x', 1, 1], [$g->{lease}, 1, 'x', 1],
	[$g->{lease}, 1, '1' x 17, 1], [$g->{lease}, 1, 1, 'x'])
{
	like($p->cmd('REPORT', @$t), qr/^-BADARG/, "report @$t[0 .. 3]");
}

like($p->cmd('REPORT', '00000001000000ff-0000010000000001', 1, 1, 1),
	qr/^-NOTFOUND/, 'report of no identity');

# show, list

for my $t (['LEASE', $g->{lease}], ['IMPU', 'sip:Web-1@IMS.example:5060'],
	['IMPI', 'web-1@ims.example'], ['USER', 'a', 'site', 'alice'])
{
	$h = $p->hash($p->cmd('SHOW', @$t));
	is("$h->{impi} $h->{lease} $h->{state} $h->{pool} $h->{sid}",
		"web-1\@ims.example $g->{lease} leased a 0000000000000001",
		"show $t->[0]");
}

like($p->cmd('SHOW', 'LEASE', $other), qr/^-NOTFOUND/, 'show: old lease');
like($p->cmd('SHOW', 'LEASE', 'x'), qr/^-BADARG/, 'show: no lease');
like($p->cmd('SHOW', 'IMPU', 'x y'), qr/^-BADARG/, 'show: no URI');
like($p->cmd('SHOW', 'IMPU', 'sip:nix@ims.example'), qr/^-NOTFOUND/,
	'show: unknown IMPU');
like($p->cmd('SHOW', 'IMPI', 'nix@ims.example'), qr/^-NOTFOUND/,
	'show: unknown IMPI');
like($p->cmd('SHOW', 'USER', 'nix', 'site', 'alice'), qr/^-NOPOOL/,
	'show: no pool');

$r = $p->cmd('LIST', '*', '*', 0);
is($r->[0], 0, 'list: all of it');
is(@{$r->[1]}, 6, 'list: six rows');
is(@{$p->cmd('LIST', 'a', 'leased', 0)->[1]}, 6, 'list: all leased');
is(@{$p->cmd('LIST', 'a', 'free', 0)->[1]}, 0, 'list: none free');

my ($cursor, $n) = (0, 0);
do {
	$r = $p->cmd('LIST', 'a', '*', $cursor, 4);
	$cursor = $r->[0];
	$n += @{$r->[1]};
} while ($cursor);
is($n, 6, 'list in slices');

like($p->cmd('LIST', 'a', 'nix', 0), qr/^-BADARG state/, 'list: no state');
like($p->cmd('LIST', 'nix', '*', 0), qr/^-NOPOOL/, 'list: no pool');
like($p->cmd('LIST', 'a', '*', 'x'), qr/^-BADARG cursor/, 'list: bad cursor');
like($p->cmd('LIST', 'a', '*', 0, 1001), qr/^-BADARG cursor/, 'list: 1001');

# revoke

is($p->cmd('REVOKE', 'LEASE', $g->{lease}), 1, 'revoke lease');
like($p->cmd('REVOKE', 'LEASE', $g->{lease}), qr/^-ENDED/, 'revoke again');
like($p->cmd('REVOKE', 'LEASE', '00000001000000ff-0000010000000001'),
	qr/^-NOTFOUND/, 'revoke: no such lease');
like($p->cmd('REVOKE', 'LEASE', 'x'), qr/^-BADARG/, 'revoke: no lease');
like($p->cmd($p->renew('a', 'alice', $g->{lease})), qr/^-ENDED/,
	'renew of a revoked one');

$h = $p->hash($p->cmd('SHOW', 'USER', 'a', 'site', 'nul'));
is($p->cmd('REVOKE', 'IMPU', $h->{impu}[0]), 1, 'revoke by IMPU');
is($p->hash($p->cmd('SHOW', 'USER', 'a', 'site', 'nul'))->{state}, 'resting',
	'it rests');
is($p->cmd('REVOKE', 'USER', '*', 'other', 'alice'), 1, 'revoke by user');
like($p->cmd('REVOKE', 'USER', 'a', 'other', 'alice'), qr/^-ENDED/,
	'revoke by user again');
like($p->cmd('REVOKE', 'USER', 'a', 'other', 'nix'), qr/^-NOTFOUND/,
	'revoke: no such user');

$g = $p->hash($p->cmd($p->acquire('a', "nul\0")));
is($g->{state}, 'same', 'one is still leased');
is($p->cmd('REVOKE', 'POOL', 'a'), '+OK', 'revoke pool');
like($p->cmd($p->renew('a', "nul\0", $g->{lease})), qr/^-ENDED/,
	'renew behind the fence');
is($p->hash($p->cmd('POOL', 'STAT', 'a'))->{leased}, 0, 'nothing is leased');
$h = $p->hash($p->cmd($p->acquire('a', "nul\0")));
is($h->{state}, 'returned', 'a new lease beyond the fence');
like($p->cmd('REVOKE', 'POOL', 'nix'), qr/^-NOPOOL/, 'revoke: no pool');

# check

my $check = $p->hash($p->cmd('CHECK'));
is($check->{faults}, 0, 'check');
cmp_ok($check->{rows}, '>', 20, 'rows looked at');

unlike($p->log(), qr/alice|bob|nul/, "users' names are not in the log");
like($p->log(), qr/pool a lease $g->{lease} new/, 'pool and lease are');

# leases survive a stop and a kill

is($p->stop(), 0, 'clean stop');
$p->start();
$g = $p->hash($p->cmd($p->acquire('a', "nul\0")));
is("$g->{state} $g->{lease}", "same $h->{lease}", 'lease after a restart');
$p->stop('KILL');
$p->start();
$g = $p->hash($p->cmd($p->acquire('a', "nul\0")));
is("$g->{state} $g->{lease}", "same $h->{lease}", 'lease after kill -9');
like($p->cmd('INFO'), qr/^incarnation:3\r$/m, 'third incarnation');

# an environment that is gone beside a floor: commits are lost

$p->stop();
system('rm', '-r', $p->dir() . '/env.1', $p->dir() . '/current');
$p->start();
like($p->log(), qr/\[alert\].*commits may be lost/, 'alert');
$p->pool('a', 3);
like($r = $p->cmd($p->acquire('a', "nul\0")), qr/^-HOLD \d+$/,
	'nothing is given');
($s) = $r =~ /(\d+)/;
cmp_ok($s, '>=', 3600 + 32 + 20 - 10, 'for as long as was ever promised');

done_testing();

###############################################################################
