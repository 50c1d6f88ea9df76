#!/usr/bin/perl

# Restore under live flows: commits are lost, so every lease ends, flows are
# closed, and nothing is given until the longest term has passed or the core
# has proved that an identity is bound no more. Restored twice, without a
# floor, and by a pool manager that is killed at each step of it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsShim;
use ImsSip;
use Test::Nginx;

use constant { FLOWS => 8, TERM => 700 + 2 + 3 };

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(55);

ims_keys($t);
my $pid = ims_pool($t, size => 40, args => [ qw/ --ttl 600 --ttl-max 700
    --delay 2 --margin 3 --purge on / ]);

# purged by hand here

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '60s',
    http => 'ims_purge off;'));
$t->run();

###############################################################################

my $dir = $t->testdir();
my $core = ImsCore->new(port(8060));
my $file = "$dir/backup.mdb";

# some that the backup knows, some that it does not, and one whose identity
# it knows as somebody else's

my @flows = map { ImsClient->new() } 1 .. FLOWS / 2;
my $former = ImsClient->new(ws => undef);

is((ims_poolctl($t, 'backup', $file))[0], 0, 'backup');

push @flows, map { ImsClient->new() } 1 .. FLOWS / 2;
$_->registered($core) for @flows;

my %lease = map { $_->{id}{lease} => 1 } @flows, $former;
my $incarnation = info('incarnation');

is((ims_poolctl($t, 'restore', $file))[0], 2, 'not without --yes');
is((ims_poolctl($t, 'restore', "$file.no", '--yes'))[0], 1, 'no such file');

$t->write_file('not.mdb', 'x' x 100000);
is((ims_poolctl($t, 'restore', "$dir/not.mdb", '--yes'))[0], 1, 'no backup');
cut("$dir/cut.mdb");
is((ims_poolctl($t, 'restore', "$dir/cut.mdb", '--yes'))[0], 1, 'one cut off');
is((ims_poolctl($t, 'restore', "$dir/pool/current/data.mdb", '--yes'))[0], 1,
    'nor the database itself');
is(join(' ', map { $_->alive() } @flows), join(' ', (1) x @flows),
    'nothing has happened');
is_deeply([glob "$dir/pool/env.*"], ["$dir/pool/env.1"], 'nothing is left');

# in the run

my ($status, $r) = ims_poolctl($t, 'restore', $file, '--yes', '--json');
is($status, 0, 'restored');
is($r->{incarnation}, $incarnation + 1, 'a new incarnation');
cmp_ok($r->{hold}, '<=', TERM, 'a hold of the longest term');
cmp_ok($r->{hold}, '>', TERM - 10, 'all of it');

my @codes = map { ($_->{ws}->closed(5))[0] // 0 } @flows;
is("@codes", join(' ', (1008) x @flows), 'every flow is closed');

my %gone;
while (my ($m, $link) = $core->request(keys %gone < FLOWS / 2 ? 5 : 1)) {
    $gone{sip_header($m, 'To')}++ if sip_header($m, 'Contact') =~ /expires=0/;
    $core->reply($link, $m, 200, 'OK', contact => '');
}
is_deeply([grep { !$gone{"<$_->{id}{impu}>"} } @flows[0 .. FLOWS / 2 - 1]],
    [], 'those whose lease is still the last one are taken back');

# nobody gets anything, and is told for how long

my $reply = ims_identity(user => 'newcomer');
is($reply->{status}, 503, 'a newcomer: 503');
my ($wait) = $reply->{headers} =~ /^Retry-After: (\d+)\r?$/mi;
cmp_ok($wait, '>', TERM - 30, 'Retry-After');
cmp_ok($wait, '<=', TERM, 'in seconds');

for my $c ($flows[0], $flows[-1], $former) {
    is(ims_identity(user => $c->{user}, cookie => $c->{cookie})->{status},
        503, "who held one before: $c->{user}");
}

# a token of an ended lease is worthless

$flows[0]->connect();
$flows[0]->send($flows[0]{ua}->register());
is(($flows[0]->answer() // {})->{status}, 403, 'the old token: 403');
is(($flows[0]{ws}->closed(3))[0], 1008, 'closed');
is(drain($core, 0.5), 0, 'and the core hears nothing');

is_deeply([map { s{.*/}{}r } sort glob "$dir/pool/env.*"],
    [qw/ env.1 env.2 /], 'the former environment is kept, once');
is((ims_poolctl($t, 'check'))[0], 0, 'the database is whole');
cmp_ok(ims_count_log($t, qr/\[warn\].*is opened anew/), '>=', 2,
    'each worker has opened the other one');

# purged at the core, an identity may be given before the hold is over

my $purge;
ok(ims_wait(10, sub {
    drain($core, 0.05);
    $purge = (ims_poolctl($t, 'purge', 'next', 'web', '--json'))[1];
    return ref $purge && @$purge;
}), 'identities to be purged');
is((ims_poolctl($t, 'purge', 'done', $purge->[0]{purge}))[0], 0, 'one is');

my $early;
ok(ims_wait(15, sub {
    $early = ims_identity(user => 'early');
    return $early->{status} == 200;
}), 'given, when the margin is over');
is($early->{json}{impi}, $purge->[0]{impi}, 'that one');
is(ims_identity(user => 'other')->{status}, 503, 'and no other');
ok(!$lease{$early->{json}{lease}}, 'with a lease that never was');

my $again = ImsClient->new(user => 'early');
is((($again->registered($core))[2] // {})->{status}, 200, 'it registers');

# restored twice: what was given meanwhile is lost and ended as well

my $before = (ims_poolctl($t, 'restore', $file, '--yes', '--json'))[1];
is($before->{incarnation}, $incarnation + 2, 'restored again');
cmp_ok($before->{hold}, '>', TERM - 10, 'the whole hold again');
is(($again->{ws}->closed(5))[0], 1008, 'the flow between is closed');
is(ims_identity(user => 'early')->{status}, 503, 'nothing is given');
drain($core, 1);

is((ims_poolctl($t, 'compact'))[0], 0, 'compacted');
cmp_ok(info('hold_seconds'), '>', TERM - 60, 'the hold goes on');
is((ims_poolctl($t, 'restore', $file, '--yes'))[0], 0, 'and again');
my @env = map { s{.*/}{}r } glob "$dir/pool/env.*";
is(scalar @env, 2, 'the one before is kept, older ones are not') or diag("@env");

# with the daemon stopped; beside one that runs it is refused

my @offline = (ims_program('ims-poolmgr'), '--dir', "$dir/pool", '--volatile',
    ($> == 0 ? qw/ --user root --group root / : ()), '--restore', $file);

($status, my $out) = ims_run(@offline);
is($status, 1, 'not beside a daemon');
like($out, qr/another pool manager runs/, 'says why');

$incarnation = info('incarnation');
ims_kill($pid, 'TERM');
is((ims_run(@offline))[0], 0, 'ims-poolmgr --restore');
is((ims_run(@offline))[0], 0, 'twice');
$pid = ims_pool_start($t);
is(info('incarnation'), $incarnation + 1, 'the next start is the start');
cmp_ok(info('hold_seconds'), '>', TERM - 10, 'nothing is given');
is((ims_poolctl($t, 'check'))[0], 0, 'the database is whole');

# the floor is missing: what is there has given leases, who knows which

ims_kill($pid, 'TERM');
unlink "$dir/pool/floor";
$pid = ims_pool_start($t);
cmp_ok(info('hold_seconds'), '>', TERM - 10, 'no floor: nothing is given');
like($t->read_file('pool.log'), qr/\[alert\].*commits may be lost/, 'said');
cmp_ok(info('incarnation'), '>', $incarnation + 1, 'incarnations go on');

# killed at each step: before it or after it, and nothing between

my $so = ims_shim($dir, 'kill_at');
my ($n, $rounds, $old, $new, @wrong) = (0, 0, 0, 0);

for (;;) {
    ims_kill($pid, 'TERM');

    # an environment that is not on hold, with one lease

    system('rm', '-rf', "$dir/pool");
    {
        local $ENV{LD_PRELOAD} = $so;
        local $ENV{KILL_AT} = "$dir/kill";
        $pid = ims_pool_start($t);
    }
    must('pool', 'create', 'web', 'ims.example');
    must('identity', 'add', 'web', 'a@ims.example', '--impu',
        'sip:a@ims.example');
    unlink $file;
    must('backup', $file);
    my $lease = (ims_poolctl($t, 'acquire', 'web', 'alice', '--json'))[1]
        {lease};

    $t->write_file('kill', ++$n);
    my ($status) = ims_poolctl($t, 'restore', $file, '--yes');
    unlink "$dir/kill";
    last if $status == 0 || $n > 80;
    $rounds++;

    ims_kill($pid, 'KILL');
    $pid = ims_pool_start($t);

    my $hold = info('hold_seconds');
    my ($shown, $r) = ims_poolctl($t, 'show', $lease, '--json');
    my $live = $shown == 0 && $r->{state} eq 'leased';
    my @env = map { s{.*/}{}r } glob "$dir/pool/env.*";

    $hold ? $new++ : $old++;

    push @wrong, "$n: lease " . ($live ? 'live' : 'ended') . ", hold $hold"
        unless $live ? $hold == 0 : $hold > 3000;
    push @wrong, "$n: left @env" if @env > 2 || grep { !/^env\.\d+$/ } @env;
    push @wrong, "$n: check" if (ims_poolctl($t, 'check'))[0] != 0;
}

diag("killed at $rounds steps: $old before, $new after it");
is_deeply(\@wrong, [], 'killed at each step: all or nothing');
cmp_ok($old, '>', 5, 'as it was');
cmp_ok($new, '>', 0, 'or restored');

is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alert of nginx');

###############################################################################

sub info {
    my ($name) = @_;

    return (ims_poolctl($t, 'info', '--json'))[1]{$name};
}


sub must {
    my (@args) = @_;

    my ($status, $out) = ims_poolctl($t, @args);
    die "@args: $out" if $status != 0;
}


# the backup without its end

sub cut {
    my ($to) = @_;

    open my $in, '<:raw', $file or die $!;
    open my $out, '>:raw', $to or die $!;
    local $/;
    my $all = <$in>;
    print $out substr $all, 0, 0.7 * length $all;
    close $out;
}


# answers what the edge takes back, as often as it asks; how much else came

sub drain {
    my ($core, $seconds) = @_;

    my $n = 0;

    while (my ($m, $link) = $core->request($seconds)) {
        $n++ unless sip_header($m, 'Contact') =~ /expires=0/;
        $core->reply($link, $m, 200, 'OK', contact => '');
    }

    return $n;
}

###############################################################################
