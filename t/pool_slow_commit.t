#!/usr/bin/perl

# Tests for a disk that takes its time: while the pool manager waits in a
# commit, workers go on with what was committed before, nobody is told of what
# is not; and what the commit brings is seen as soon as it is done, however
# often a worker has looked meanwhile.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl');

plan(skip_all => 'a sanitizer must be preloaded first')
    if ($ENV{IMS_BUILD} // '') =~ /asan/;

my $so = $t->testdir() . '/hold_sync.so';
my $hold = $t->testdir() . '/hold';

plan(skip_all => 'no compiler')
    if system('cc', '-shared', '-fPIC', '-D_GNU_SOURCE', '-o', $so,
              'lib/fail_sync.c') != 0;

$t->plan(19);

ims_keys($t);
ims_kill(ims_pool($t), 'TERM');

{
    local $ENV{LD_PRELOAD} = $so;
    local $ENV{HOLD_SYNC} = $hold;
    ims_pool_start($t);
}

$t->write_file_expand('nginx.conf', ims_conf($t, lease_check => '300ms',
    grace => '300s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($busy, $idle, $other) = map { ImsClient->new() } 1 .. 3;

$_->registered($core) for $busy, $idle, $other;

# a commit that ends two leases, and does not come to its end

$t->write_file('hold', '');

my @revoked = map { revoke($_) } $busy, $idle;

ok(ims_wait(20, sub { -e "$hold.on" }), 'the pool manager waits for its disk');

# the workers poll, and go on; their snapshot is that of before

my ($served, $longest) = (0, 0);
my $end = time() + 3;

while (time() < $end) {
    for my $c ($busy, $other) {
        my $start = time();
        $served += message($c);
        $longest = time() - $start if time() - $start > $longest;
    }
}

cmp_ok($served, '>', 20, "messages are passed: $served");
cmp_ok($longest, '<', 3, 'and do not wait for the commit');

my ($m) = $busy->registered($core);
ok($m, 'a REGISTER, too');
ok($idle->alive(), 'an idle flow is left alone');
is((grep { waitpid($_, 1) } @revoked), 0, 'nobody was told that it is done');

# nobody is told of a lease that is not on the disk

my $r = ims_identity(user => 'late');
is($r->{status}, 503, 'no lease');
is($r->{json}{error}, 'unavailable', 'said why');

# it is done

unlink $hold;

for my $pid (@revoked) {
    is(waitpid($pid, 0), $pid, 'the command ends');
    is($?, 0, 'well');
}

$busy->send($busy->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
ok(refused($busy), 'the very next message is refused');
is(($busy->{ws}->closed(5))[0], 1008, 'and the flow closed');
is(($idle->{ws}->closed(5))[0], 1008, 'an idle one, too');

ok(message($other), 'the lease of another goes on');

ok(ims_wait(10, sub { ims_identity(user => 'late')->{status} == 200 }),
    'leases are given again');

my ($status, $json) = ims_poolctl($t, 'check', '--json');
is($status, 0, 'check');

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub revoke {
    my ($c) = @_;

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        exec ims_program('ims-poolctl'), '-s', $t->testdir() . '/pool.sock',
            'revoke', 'lease', $c->{id}{lease} or POSIX::_exit(127);
    }

    return $pid;
}


sub message {
    my ($c) = @_;

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));

    # between them, what the edge takes back

    for (1 .. 5) {
        my ($m, $link) = $core->request(5) or return 0;
        $core->reply($link, $m, 200, 'OK');
        last if $m->{method} eq 'MESSAGE';
    }

    my $answer = $c->answer();

    return $answer && $answer->{status} == 200;
}


sub refused {
    my ($c) = @_;

    my $answer = $c->answer();

    return !$answer || $answer->{status} == 403;
}

###############################################################################
