#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# Pool manager: a hold after lost commits, ended by the history log; what is
# held on, what proves nothing, and what becomes of a log that fails.

###############################################################################

use warnings;
use strict;

use Test::More;

use FindBin;
use JSON::PP;
use Time::HiRes qw/ time sleep /;
use lib "$FindBin::Bin/lib";

use ImsPool;
use ImsShim;

use constant TERM => 12 + 1 + 1;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my ($p, $q, $h, $status, $out, $err);

sub ctl { ($status, $out, $err) = $p->run_ctl(@_); return $status; }
sub info { $p->cmd('INFO') =~ /^$_[0]:(\d+)\r$/m ? $1 : undef }

sub acquire {
	my $r = $p->cmd($p->acquire('web', @_));
	return $h = ref $r ? $p->hash($r) : { error => $r };
}

# the number in the name of whom somebody got, or the error's first word

sub got {
	my ($user) = @_;
	acquire($user);
	return $h->{error} ? $h->{error} =~ /^-(\w+)/ : $h->{impi} =~ /-0*(\d+)@/;
}

sub slurp {
	my ($file) = @_;
	open my $f, '<', $file or die "$file: $!";
	local $/;
	return scalar <$f>;
}

# in place, or a file of its own

sub spew {
	my ($file, $text) = @_;
	open my $f, '>', $file or die "$file: $!";
	print $f $text;
	close $f;
	return $file;
}

sub lines { return map { eval { decode_json($_) } // () } split /\n/,
	slurp($_[0]); }

# what ims-poolctl makes of them

sub words {
	my ($file) = @_;
	return join '', map { join("\t", @$_) . "\n" } map {
		$_->{event} eq 'begin'
			? ['B', $_->{lease}, $_->{impi}, @{$_->{impus}}]
			: $_->{event} eq 'end' ? ()
			: ['S', $_->{incarnation}, $_->{run}, $_->{last},
				$_->{before} // ()] } lines($file);
}

sub unproven {
	my ($what, $re, @files) = @_;
	is(ctl('hold', 'replay', @files), 1, "$what: refused");
	like($err, qr/$re/, "$what: why");
	is((got('nobody'))[0], 'HOLD', "$what: the hold goes on");
}

sub new_pool {
	$p = ImsPool->new(args => ['--history-sync'], @_);
	$p->pool('web', 7, 'TTL', 10, 'TTLMAX', 12, 'D', 1, 'MARGIN', 1);
	return $p->dir() . '/history.log';
}

# a start of its own, without a pool manager

sub restore_offline {
	my ($file) = @_;
	my $pid = fork();
	if ($pid == 0) {
		open STDERR, '>', $p->tmp() . '/restore';
		exec $p->mgr(), '--dir', $p->dir(), '--volatile', ($> ? () :
			('--user', 'root')), '--restore', $file or POSIX::_exit(127);
	}
	waitpid $pid, 0;
	return $? >> 8;
}

###############################################################################

# it is of a file alone

$p = ImsPool->new(idle => 1);

for my $where ('none', 'syslog', 'syslog:local0@/dev/log') {
	($status, $out) = $p->refused('--history-sync', '--history', $where);
	is($status, 2, "--history $where");
	like($out, qr/needs a file, not "\Q$where\E"/, "what is wrong with it");
}

# and of one that a power cut does not take; unless somebody says --volatile

SKIP: {
	my $shm = "/dev/shm/ims-$$";
	skip 'no tmpfs', 3 unless `stat -f -c %T /dev/shm 2>&1` =~ /tmpfs/
		&& mkdir $shm;

	my @user = $> ? () : ('--user', 'root');
	my $command = join ' ', $p->mgr(), @user, '--dir', $p->dir(), '--socket',
		$p->socket(), '--history-sync', '--history', "$shm/history.log";
	my $text = `$command 2>&1`;
	is($? >> 8, 1, 'a log on tmpfs');
	like($text, qr/is on \w+, which does not keep what was synced/, 'why');
	unlike($text, qr/ready/, 'it does not start');
	system('rm', '-r', $shm);
}

# a lease before the backup, lengthened after it; leases after it; names that
# went to another identity

my $log = new_pool();
my $backup = $p->tmp() . '/backup.mdb';

my @l = lines($log);
is_deeply([sort keys %{$l[0]}], [qw/ event incarnation last run time /],
	'a line for the start');
is_deeply([@{$l[0]}{qw/ event incarnation last /}],
	['start', 1, '0' x 16], 'what it says');
is(info('history_complete'), 1, 'INFO');
is(info('hold_replay'), 0, 'no hold');

is((got('alice'))[0], 1, 'alice');
my $alice = $h->{lease};
is(ctl('backup', $backup), 0, 'backup');
my $old = spew($p->tmp() . '/old.log', slurp($log));

sleep 1;
$p->cmd($p->renew('web', 'alice', $alice));
is($p->cmd('IDENTITY', 'REMOVE', 'sip:web-0002@ims.example'), 0, 'one goes');
is($p->cmd('IDENTITY', 'REMOVE', 'sip:web-0003@ims.example'), 0, 'one more');
ok((sub {
	for (1 .. 100) {
		return 1 if $p->cmd('IDENTITY', 'ADD', 'web', 0, 'x-0009@ims.example',
			'', 'sip:WEB-0002@ims.example', 'sip:new@ims.example') !~ /^-/;
		sleep 0.1;
	}
})->(), 'its name comes again');

is_deeply([map { (got($_))[0] } qw/ bob carol /], [4, 5], 'bob and carol');
$p->cmd('IDENTITY', 'REMOVE', "sip:web-000$_\@ims.example") for 6, 7;
is((got('dave'))[0], 9, 'dave has the one with the name of another');

# killed, and restored without a pool manager

$p->stop('KILL');
is(restore_offline($backup), 0, 'restored');
spew($log, slurp($log) . '{"event":"beg');
$p->start();
is((got('eve'))[0], 'HOLD', 'nothing is given');
is(info('hold_replay'), 1, 'but a log can end it');
@l = lines($log);
is_deeply([sort keys %{$l[-1]}], [qw/ before event incarnation last run time /],
	'the start knows that commits are lost');

# what proves nothing

my $whole = slurp($log);
my @all = split /^/, $whole;
my ($at) = grep { $all[$_] =~ /"begin"/ && $all[$_] =~ /web-0005/ } 0 .. $#all;

{
	my ($ino, $dev) = (stat $log)[1, 0];
	my $c = $p->connect();
	like($c->cmd('REPLAY', 'BEGIN'), qr/^\+OK/, 'replay');
	like($c->cmd('REPLAY', 'FILE', $ino, $dev + 1), qr/^\+OK/,
		'another file of this number');
	$c->cmd('REPLAY', 'LINES', words($log));
	like($c->cmd('REPLAY', 'END'), qr/^-UNPROVEN missing: the log that was/,
		'is not the log');
}

unproven('a copy', 'missing: the log that was written',
	spew($p->tmp() . '/copy', $whole));
unproven('an older copy', 'missing: lease numbers', $old);
unproven('an empty file', 'missing: the start', spew($p->tmp() . '/empty', ''));
unproven('another file', 'line \d+ cannot be read', $0);
unproven('no such file', 'No such file', "$log.none");

spew($log, join '', @all[0 .. $at - 1, $at + 1 .. $#all]);
unproven('a gap', 'missing: lease numbers 0000010000000003 to '
	. '0000010000000003', $log);
spew($log, join '', @all[0 .. $at - 1]);
unproven('cut off', 'missing: lease numbers', $log);
spew($log, join '', @all[0 .. $at - 1], substr($all[$at], 0, 40) . "\n",
	@all[$at + 1 .. $#all]);
unproven('half a line', 'missing: lease numbers', $log);
like($err, qr/2 half lines were passed over/, 'it is told');
for (['a flipped bit', sub { s/"event"/"ewent"/ }],
	['a flipped brace', sub { s/^\{/[/ }],
	['no lease', sub { s/"lease":"/"lease":"x/ }],
	['a later version', sub { s/"begin"/"began"/ }])
{
	my ($what, $how) = @$_;
	my @bad = @all;
	$how->() for $bad[$at];
	spew($log, join '', @bad);
	unproven($what, 'line ' . ($at + 1) . ' cannot be read', $log);
}
spew($log, join '', map { s/,"impi":.*\],/,/r } @all);
unproven('no names', 'lease number 0000010000000002 has no names', $log);
spew($log, join '', map { s/"run":"./"run":"x/r } @all);
unproven('no numbers', '', $log);
spew($log, join '', map { s/"run":"\K(.)/$1 eq '0' ? 1 : 0/er } @all);
unproven('of another pool', 'another database', $log);
spew($log, $whole);

# nor may everybody

my $c = $p->connect();
is($c->cmd('AUTH', $p->secret('wwsf')), '+OK', 'nginx');
like($c->cmd('REPLAY', 'BEGIN'), qr/^-DENIED/, 'may not');
$c = $p->connect();
like($c->cmd('REPLAY', 'LINES', ''), qr/^-NOTFOUND/, 'lines of no replay');
like($c->cmd('REPLAY', 'BEGIN'), qr/^\+OK/, 'one');
like($p->cmd('REPLAY', 'BEGIN'), qr/^-BUSY/, 'one at a time');
like($c->cmd('REPLAY', 'LINES', "B\t<script>\n"), qr/^-BADARG a line is none$/,
	'no line');
like($c->cmd('REPLAY', 'LINES', ''), qr/^-NOTFOUND/, 'and the replay is over');
like($c->cmd('REPLAY', 'BEGIN'), qr/^\+OK/, 'again');
like($c->cmd('REPLAY', 'LINES', "S\t1\t0\t0"), qr/^-BADARG/, 'no end');
like($c->cmd('REPLAY', 'BEGIN'), qr/^\+OK/, 'left alone');
undef $c;
sleep 0.2;

# the log itself

my $t0 = time();
is(ctl('hold', 'replay', $log, '--json'), 0, 'replayed');
is_deeply([@{decode_json($out)}{qw/ leases identities held /}], [3, 7, 4],
	'three leases, and four of seven identities');
is(info('hold_seconds'), 0, 'no hold any more');
cmp_ok(info('hold_rest_seconds'), '>', 0, 'but for what is imported');
is(ctl('hold', 'replay', $log), 1, 'once');
like($err, qr/nothing is held/, 'why');

is_deeply([map { (got($_))[0] } qw/ alice eve frank /], [3, 6, 7],
	'others are given at once, to their former holders as well');
is((got('bob'))[0], 'EXHAUSTED', 'no others');

unlike($p->cmd('IDENTITY', 'ADD', 'web', 0, 'y-0010@ims.example', '',
	'sip:y@ims.example'), qr/^-/, 'an import');
is((got('bob'))[0], 'EXHAUSTED', 'rests');
is(ctl('check'), 0, 'the database is whole');

sleep 0.5 while (got('bob'))[0] eq 'EXHAUSTED' && time() - $t0 < TERM + 10;
ok(!$h->{error}, 'and then they are given');
cmp_ok(time() - $t0, '<', TERM + 3, 'in time');
sleep 0.5 while info('hold_rest_seconds');
is((sort map { (got($_))[0] } qw/ bob carol dave gina hugh /)[0], 1,
	'all of them');
$p->stop();
is(scalar(() = $p->log() =~ /the history log ended the hold: 4 of 7/g), 1,
	'in the log');

###############################################################################

# files that follow each other, in a pool manager that runs

$log = new_pool();
got('alice');
is(ctl('backup', $backup), 0, 'backup');
got('bob');

for my $no (1, 2) {
	rename $log, "$log.$no";
	kill 'HUP', $p->pid();
	sleep 0.05 until -s $log;
	is((lines($log))[0]{event}, 'file', "the head of file $no");
	got("user$no");
}

is(ctl('compact'), 0, 'compacted');
got('user3');
is(ctl('restore', $backup, '--yes'), 0, 'restored');

unproven('the last one', 'missing: ', $log);
unproven('without the middle', 'missing: ', "$log.1", $log);
unproven('in another order', 'missing: ', "$log.2", "$log.1", $log);
unproven('the log not among them', 'missing: ', "$log.1", "$log.2");
unproven('without the oldest', 'missing: ', "$log.2", $log);
spew("$log.not", slurp($log));
is(ctl('hold', 'replay', "$log.1", "$log.2", $log, "$log.not"), 0,
	'all of them, and a copy');
like($out, qr/"leases": "4"/, 'four leases');
is_deeply([map { (got($_))[0] } qw/ a b c /], [6, 7, 'EXHAUSTED'],
	'two were free');

# rotated, and the daemon is not told: the file with the old number is written

is(ctl('backup', $backup), 0, 'backup');
rename $log, "$log.3";
got('alice');
is(ctl('restore', $backup, '--yes'), 0, 'restored');
unproven('not the others', 'missing', "$log.1", "$log.2");
is(ctl('hold', 'replay', "$log.3"), 0, 'that one is enough');

# started without the option there is no proof; nor by another file, alone

$p->stop();
$p->{args} = [];
$p->start();
is(info('history_complete'), 0, 'not synced');
is(ctl('backup', $backup), 0, 'backup');
is(ctl('restore', $backup, '--yes'), 0, 'restored');
is(info('hold_replay'), 0, 'no replay');
unproven('without the option', 'there was no complete log', $log);
$p->stop();
unlike($p->log(), qr/AddressSanitizer|runtime error/, 'no sanitizer');

###############################################################################

# a log that fails

my ($fail, $lost);

{
	$p = ImsPool->new(idle => 1, args => ['--history-sync']);
	$fail = $p->tmp() . '/fail';
	local $ENV{LD_PRELOAD} = ims_shim($p->tmp(), 'fail_log');
	local $ENV{FAIL_LOG} = $fail;
	$p->start();
}

$p->pool('web', 20, 'TTL', 10, 'TTLMAX', 12, 'D', 1, 'MARGIN', 1);
$log = $p->dir() . '/history.log';
is(ctl('backup', $backup), 0, 'backup');

for my $how (qw/ write sync /) {
	is(info('history_complete'), 1, "$how: complete");
	spew($fail, $how);
	ok(got("user-$how"), "$how: the lease is given");
	is(info('history_complete'), 0, "$how: the log is not complete");
	like(slurp($p->dir() . '/floor'), qr/^ims-pool-floor \d+ \d+ \w{8}$/,
		"$how: on the disk, too");
	like($p->log(), qr/\[alert\] \d+: history log: it has gaps/, "$how: told");
	unlink $fail;
	kill 'HUP', $p->pid();
	for (1 .. 100) { last if info('history_complete'); sleep 0.05; }
}

is(info('history_complete'), 1, 'SIGHUP begins anew');
is(ctl('restore', $backup, '--yes'), 0, 'restored');
unproven('with a gap', 'there was no complete log', $log);

# when that cannot be written either nothing is told

$p->stop();

{
	local $ENV{LD_PRELOAD} = ims_shim($p->tmp(), 'fail_log');
	local $ENV{FAIL_LOG} = $fail;
	$p->start();
}

sleep 0.5 while (got('user1'))[0] eq 'HOLD';

# half a line: the next one does not go on in it

spew($fail, 'half');
like((got('user-half'))[0], qr/^\d+$/, 'the lease is given');
$p->cmd($p->release('web', 'user-half', $h->{lease}));
like((got('user-half'))[0], qr/^\d+$/, 'and again');
unlink $fail;
$lost = info('history_lost');
unlike(slurp($log), qr/\n\z/, 'half a line');
$p->cmd($p->release('web', 'user-half', $h->{lease}));
is(info('history_lost'), $lost, 'the next one is written');
like(slurp($log), qr/\n\{[^\n]{9}\n\{[^\n]*"end"[^\n]*\}\n\z/, 'whole');

kill 'HUP', $p->pid();
for (1 .. 100) { last if info('history_complete'); sleep 0.05; }

# removed under the daemon: nobody will ever read it

is(info('history_complete'), 1, 'complete');
unlink $log;
for (1 .. 100) { last unless info('history_complete'); sleep 0.1; }
is(info('history_complete'), 0, 'removed, and not complete');
like($p->log(), qr/\[alert\] \d+: history log: "[^"]*" was removed/, 'told');
kill 'HUP', $p->pid();
for (1 .. 100) { last if info('history_complete'); sleep 0.05; }
is(info('history_complete'), 1, 'SIGHUP begins anew');
ok(-s $log, 'with a file');

is(ctl('backup', $backup), 0, 'backup');
spew($fail, 'sync floor');
like(acquire('user2')->{error}, qr/^-UNKNOWN/, 'nothing is told');
waitpid $p->pid(), 0;
is($? >> 8, 3, 'the daemon leaves');
like($p->log(), qr/\[emerg\] \d+: the floor cannot be written/, 'why');
unlink $fail;
delete $p->{pid};
$p->start();
ok(got('user2'), 'given now');
my $lease = $h->{lease};

# nor is another file written, whose number the floor has not

$p->stop();

{
	local $ENV{LD_PRELOAD} = ims_shim($p->tmp(), 'fail_log');
	local $ENV{FAIL_LOG} = $fail;
	$p->start();
}

rename $log, "$log.1";
spew($fail, 'floor');
kill 'HUP', $p->pid();
waitpid $p->pid(), 0;
is($? >> 8, 3, 'the daemon leaves at SIGHUP, too');
like($p->log(), qr/\[emerg\] \d+: the floor cannot be written/, 'why');
unlink $fail;
rename "$log.1", $log;
delete $p->{pid};
$p->start();
is(info('history_complete'), 1, 'it goes on where it was');

# killed between the commit and the line: the next start writes it

$p->stop();

{
	local $ENV{LD_PRELOAD} = ims_shim($p->tmp(), 'fail_log');
	local $ENV{FAIL_LOG} = $fail;
	$p->start();
}

spew($fail, 'stop');
$c = $p->connect();
$c->send($p->acquire('web', 'user3'));
for (1 .. 200) {
	last if slurp('/proc/' . $p->pid() . '/stat') =~ /\) T /;
	sleep 0.05;
}
$p->stop('KILL');
unlink $fail;
unlike(slurp($log), qr/0000000000000001"[^\n]*\n\z/, 'no line');
my $slow = $p->tmp() . '/slow';

{
	local $ENV{LD_PRELOAD} = ims_shim($p->tmp(), 'slow_copy');
	local $ENV{SLOW_COPY} = $slow;
	$p->start();
}

ok(got('user3'), 'the lease is there');
my $late = $h->{lease};
is(scalar(grep { ($_->{lease} // '') eq $late } lines($log)), 1,
	'and so is its line');
cmp_ok(scalar(grep { ($_->{lease} // '') eq $lease } lines($log)), '>=', 1,
	'that of the other, too, once more perhaps');
is(ctl('restore', $backup, '--yes'), 0, 'restored');

# not beside a copy, which would not know of it

spew($slow, '');
$c = $p->connect();
$c->send('BACKUP', $p->tmp() . '/slow.mdb');
for (1 .. 100) { last if $p->cmd('INFO') =~ /^copy:backup/m; sleep 0.05; }
is(ctl('hold', 'replay', $log), 1, 'a backup is under way');
like($err, qr/BUSY/, 'why');
is((got('nobody'))[0], 'HOLD', 'the hold goes on');
unlink $slow;
for (1 .. 100) { last if $p->cmd('INFO') =~ /^copy:none/m; sleep 0.05; }

# nor beside another

my $d = $p->connect();
like($d->cmd('REPLAY', 'BEGIN'), qr/^\+OK/, 'replay');
like($d->cmd('REPLAY', 'FILE', (stat $log)[1, 0]), qr/^\+OK/, 'this file');
like($d->cmd('REPLAY', 'LINES', words($log)), qr/^\+OK/, 'its lines');
$c = $p->connect();
is($c->cmd('PING'), '+PONG', 'who is there already');
kill 'STOP', $p->pid();
$d->send('REPLAY', 'END');
$c->send('REPLAY', 'BEGIN');
kill 'CONT', $p->pid();
like($c->recv(), qr/^-BUSY/, 'another one while it is worked off');
is($p->hash($d->recv())->{leases}, 2, 'they prove it, both');

# half a line of the last process

$p->stop();
spew($log, slurp($log) . '{"event":"be');
$p->start();
is((lines($log))[-1]{event}, 'start', 'a line of its own');
$p->stop();
unlike($p->log(), qr/AddressSanitizer|runtime error/, 'no sanitizer');

# what cannot be read again is no log

my $none = $p->tmp() . '/none';
mkdir $none, 0750;
system('mkfifo', "$none/history.log");
open my $fifo, '+<', "$none/history.log" or die;
$p->{args} = ['--history-sync', '--history', "$none/history.log"];
is(eval { $p->start(); 1 }, undef, 'a pipe');
like($p->log(), qr/\[emerg\] \d+: cannot write "[^"]*none\/history\.log"/,
	'its name');

done_testing();
