#!/usr/bin/perl

# A full disk: nothing new is given or imported, leases that are there go on
# for a while, and a revocation is never stopped; it reaches live flows. With a
# backup running, under which every commit takes new pages, too.
#
# As root on a small file system of its own, which is really full; where none
# can be mounted, a library says so to the daemon.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsPool;
use ImsShim;
use ImsSip;
use Test::Nginx;

use constant { RESERVE => 16, DISK => 96, LEASES => 170 };

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(41);

my $dir = $t->testdir();
my $mounted = mounted("$dir/pool");
my $owner = $$;

diag($mounted ? 'a file system of its own' : 'no file system can be mounted: '
    . 'a library stands for the full disk');

ims_keys($t);
my $pid = started();
ims_poolctl($t, qw/ pool create web ims.example /);
ims_poolctl($t, 'import', 'web', '--range', 'sip:web-[0001-2000]@ims.example');

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '60s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my @flows = map { ImsClient->new() } 1 .. 8;
$_->registered($core) for @flows;

my $c = connected();
my $number = 0;

my %lease;
for my $i (1 .. LEASES) {
    my $r = $c->cmd(acquire("u$i"));
    $lease{"u$i"} = $r->[3] if ref $r;
}
is(scalar keys %lease, LEASES, 'leases');
is(info('reserve'), RESERVE << 20, 'the reserve');
cmp_ok(info('space_left'), '>=', RESERVE << 20, 'all of it is there');

# full

fill();
is(ims_identity(user => 'still')->{status}, 200, 'what is free yet is given');

my ($status, $out) = ims_poolctl($t, 'import', 'web', '--range',
    'sip:more-[000001-200000]@ims.example');
is($status, 1, 'an import is refused');
like($out, qr/the disk or the map is full \(NOSPACE\)/, 'says why');

ok(ims_wait(20, sub {
    (ims_poolctl($t, qw/ pool stat web --json /))[1]{total} == 2000
}), 'all of it is out again');

# what is free is counted each few batches

ok(ims_wait(10, sub { ims_identity(user => 'again')->{status} == 200 }),
    'what it had taken is used again');
ok(ims_wait(10, sub {
    ims_identity(user => 'again');
    return info('space_left') >= RESERVE << 20;
}), 'the reserve is whole') or diag(info('space_left'));

# somebody reads for long: nothing is used again, every commit takes new pages

my $reader = backup();
ok($reader, 'a backup that takes long');

my ($n, $r) = (0);
do { $r = $c->cmd(acquire('more' . ++$n)) } while ref $r && $n < 20000;
diag("$n new leases until there is only the reserve");

like($r, qr/^-NOSPACE/, 'then no new lease');
my $reply = ims_identity(user => 'new');
is($reply->{status}, 503, 'nor for a browser: 503');
like($reply->{headers}, qr/^Retry-After: \d+\r?$/mi, 'with Retry-After');
like($c->cmd('POOL', 'CREATE', 'more', 'ims.example'), qr/^-NOSPACE/,
    'no new pool');
like($c->cmd('IDENTITY', 'ADD', 'web', 0, 'one@ims.example', '',
    'sip:one@ims.example'), qr/^-NOSPACE/, 'no new identity');
ok(ims_wait_log($t, qr/\[alert\].*nothing new is given or imported/,
    file => 'pool.log'), 'the log says so');

# those that are there go on, and end

ok(ref $c->cmd(acquire('u1')), 'a lease goes on: acquire');
ok(ref $c->cmd(renew('u2')), 'renew');
is($flows[0]->renew()->{status}, 200, 'a browser renews');
is((($flows[0]->registered($core))[2] // {})->{status}, 200, 'registers');
is(revoked(0), 1008, 'revoked: closed');
is($c->cmd(release('u3'))->[5], 1, 'released');

$n = 0;
do { $r = $c->cmd(acquire('u' . (4 + ++$n % 50))) } while ref $r && $n < 20000;
diag("$n renewals took half of it");

like($r, qr/^-NOSPACE/, 'at last leases are not lengthened');
cmp_ok(info('space_left'), '>', RESERVE << 18, 'the other half is left');
ok(ims_wait_log($t, qr/\[alert\].*leases are not lengthened/,
    file => 'pool.log'), 'the log says so');
like($c->cmd(renew('u5')), qr/^-NOSPACE/, 'nor by renew');
$reply = ims_identity(user => $flows[1]{user}, cookie => $flows[1]{cookie});
is($reply->{status}, 503, 'a browser: 503');

# ends are never refused: each of these is a commit of its own

my @refused;
for my $i (60 .. 159) {
    my $r = $i % 4 == 0 ? $c->cmd(release("u$i"))
        : $i % 4 == 1 ? $c->cmd('REVOKE', 'LEASE', $lease{"u$i"}, 'BAR')
        : $i % 4 == 2 ? $c->cmd('IDENTITY', 'DISABLE', impu("u$i"), 'NOW')
        : $c->cmd('REPORT', $lease{"u$i"}, 1, 'f', now() + 1000000);
    push @refused, "$i: " . ($r // 'silence') if !defined $r || $r =~ /^-/;
}
is("@refused[0 .. ($#refused > 3 ? 3 : $#refused)]", '', '100 ends: each done');
is(revoked(1), 1008, 'a flow is closed');
ok(scalar(glob "$reader->{file}.*.new"), 'the backup still reads');

my ($fenced) = ims_poolctl($t, qw/ revoke pool web /);
is($fenced, 0, 'the whole pool');
is(join(' ', map { ($_->{ws}->closed(5))[0] // 0 } @flows[2 .. $#flows]),
    join(' ', (1008) x (@flows - 2)), 'every flow is closed');

# a start on a full disk

unlink "$dir/slow";
ok(ref $reader->{c}->recv(60), 'the backup ends');
is((ims_poolctl($t, 'check'))[0], 0, 'the database is whole');

ims_kill($pid, 'KILL');
$pid = started();
$c = connected();
ok($c->cmd('PING'), 'it starts');
is((ims_poolctl($t, 'check'))[0], 0, 'the database is whole');
$r = $c->cmd('SHOW', 'LEASE', $lease{u61});
like(join(' ', ref $r ? @$r : $r // 'none'), qr/ state resting /,
    'what was revoked is revoked');

# space again

unfill();
ok(ims_wait(10, sub { ref $c->cmd(acquire('fresh')) }),
    'with space again leases are given');
is((ims_poolctl($t, 'compact'))[0], 0, 'compacted');
cmp_ok(info('space_left'), '>=', RESERVE << 20, 'with the reserve whole');
is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alert of nginx');

ims_kill($pid, 'TERM');
$t->stop();

###############################################################################

# a small file system, if this is root and the machine lets it

sub mounted {
    my ($at) = @_;

    return if $> != 0 || $ENV{IMS_TEST_NO_MOUNT};

    my $image = "$dir/disk.img";

    open my $f, '>', $image or return;
    truncate $f, DISK << 20;
    close $f;
    mkdir $at, 0750;

    my ($status) = ims_run('mkfs.ext4', '-q', '-m', 0, $image);
    ($status) = ims_run('mount', '-o', 'loop', $image, $at) if $status == 0;

    rmdir $at if $status != 0;

    return $status == 0;
}


# until not a byte is left; on the real thing by a file

sub fill {
    $t->write_file('full', '');
    return unless $mounted;

    open my $f, '>', "$dir/pool/filler" or die $!;

    for my $size (1 << 20, 4096, 1) {
        1 while syswrite $f, 'x' x $size;
    }

    close $f;
}


sub unfill {
    unlink "$dir/full", "$dir/pool/filler";
}


sub connected {
    my $s = IO::Socket::UNIX->new(Peer => "$dir/pool.sock") or die $!;

    return bless { s => $s, buf => '', sel => IO::Select->new($s) },
        'ImsPool::Conn';
}


sub acquire {
    my ($user) = @_;

    return ('ACQUIRE', 'web', 'test', $user, '0' x 15 . '1',
        sprintf('%032x', ++$number), 0);
}


sub renew {
    my ($user, $word) = @_;

    return ($word // 'RENEW', 'web', 'test', $user, $lease{$user},
        '0' x 15 . '1', sprintf('%032x', ++$number), 0);
}


sub release { return renew($_[0], 'RELEASE'); }


sub impu {
    my ($user) = @_;

    my %h = @{$c->cmd('SHOW', 'LEASE', $lease{$user})};

    return $h{impu};
}


sub now {
    my %h = @{$c->cmd('SHOW', 'LEASE', $lease{u1})};

    return $h{now};
}


sub info {
    my ($name) = @_;

    return (ims_poolctl($t, 'info', '--json'))[1]{$name};
}


# the code that a flow is closed with when its lease is revoked

sub revoked {
    my ($i) = @_;

    ims_poolctl($t, 'revoke', 'lease', $flows[$i]{id}{lease});

    return ($flows[$i]{ws}->closed(5))[0] // 0;
}


# one that has a snapshot, and does not go on

sub backup {
    my $b = { c => connected(), file => "$dir/long.mdb" };

    $t->write_file('slow', '');
    $b->{c}->send('BACKUP', $b->{file});

    return ims_wait(20, sub { glob "$b->{file}.*.new" }) && $b;
}


sub started {
    my @shims = map { ims_shim($dir, $_) }
        'slow_copy', ($mounted ? () : 'full_disk');

    local $ENV{LD_PRELOAD} = join ':', @shims;
    local $ENV{SLOW_COPY} = "$dir/slow";
    local $ENV{FULL_DISK} = "$dir/full";

    return ims_pool_start($t, '--reserve', RESERVE);
}

###############################################################################

END {
    if ($mounted && $$ == $owner) {
        local $?;
        kill 'KILL', $pid if $pid;
        unlink "$dir/slow";
        ims_run('umount', '-l', "$dir/pool");
    }
}
