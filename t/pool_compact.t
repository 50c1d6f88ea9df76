#!/usr/bin/perl

# Compaction under live flows: the pool manager goes over to another
# environment, calls go on, no flow is lost, nothing that was told is lost;
# and a pool manager that is killed at each step of it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use MIME::Base64 qw/ encode_base64 /;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsPool;
use ImsShim;
use ImsSip;
use Test::Nginx qw/ :DEFAULT http_start /;

use constant { FLOWS => 12, TIMES => 6 };

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->plan(11 * TIMES + 24);

ims_keys($t);
my $pid = ims_pool($t, size => 3000);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2, lease_check => '200ms', grace => '60s'));
$t->run();

###############################################################################

my $dir = $t->testdir();
my $core = ImsCore->new(port(8060));
my @flows = map { ImsClient->new() } 1 .. FLOWS;
$_->registered($core) for @flows;

# somebody who talks all the time

my $talker = ImsClient->new();
ImsCall::registered($talker, $core);
my $call = ImsCall->calls($talker, $core);

my %parity;

for my $time (1 .. TIMES) {

    # each second time in the middle of requests. The other times the number
    # of the last transaction is even and odd by turns, which is not left to
    # chance: how many commits a few requests take is nobody's to say

    my $txn = info('transaction');
    my $want = $time / 2 % 2;
    my @asked;

    if ($time % 2) {
        @asked = map { ask("load$time-$_") } 1 .. 5;

    } else {
        for my $more (1 .. 9) {
            last if $txn % 2 == $want;
            ims_poolctl($t, 'acquire', 'web', "more$time-$more");
            $txn = info('transaction');
        }

        $parity{$txn % 2}++;
    }

    my $from = readlink "$dir/pool/current";
    my ($status, $r) = ims_poolctl($t, 'compact', '--json');
    push @asked, map { ask("load$time+$_") } 1 .. 5;

    is($status, 0, "$time: compacted, transaction $txn");
    cmp_ok($r->{after}, '<=', $r->{before}, 'no larger');
    isnt(readlink "$dir/pool/current", $from, 'another environment');
    is_deeply([map { s{.*/}{}r } glob "$dir/pool/env.*"],
        [readlink "$dir/pool/current"], 'the former one is taken away');

    # at once: refreshed, and messages in both directions

    is(join(' ', map { refreshed($_) } @flows), join(' ', (200) x FLOWS), 'registrations go on');
    is(join(' ', map { message($_) } @flows), join(' ', (200) x FLOWS),
        'messages go on');

    is(dialog(), '200 200', 'and the call, in both directions');

    is_deeply([grep { $_->{status} != 200 } map { answer_of($_) } @asked], [],
        'identities are given before and after');
    is((ims_poolctl($t, 'check'))[0], 0, 'the database is whole');

    # an end reaches a flow by way of the new environment

    my $flow = pop @flows;
    ims_poolctl($t, 'revoke', 'lease', $flow->{id}{lease});
    is(($flow->{ws}->closed(3))[0], 1008, 'revoked: closed');
    answer_all($core);

    push @flows, ImsClient->new();
    is((($flows[-1]->registered($core))[2] // {})->{status}, 200,
        'another one comes');
}

cmp_ok(scalar keys %parity, '==', 2, 'at even and at odd transactions');

# idle flows are looked at anew, too: one that ends in the very moment

my $flow = pop @flows;
my $ctl = fork() // die;
if ($ctl == 0) {
    open STDOUT, '>', '/dev/null';
    exec ims_program('ims-poolctl'), '-s', "$dir/pool.sock", 'compact'
        or POSIX::_exit(127);
}
ims_poolctl($t, 'revoke', 'lease', $flow->{id}{lease});
waitpid $ctl, 0;
is($?, 0, 'compacted while a lease is revoked');
is(($flow->{ws}->closed(3))[0], 1008, 'closed');
answer_all($core);

is(join(' ', map { $_->alive() } @flows), join(' ', (1) x @flows),
    'no flow was lost');
cmp_ok(ims_count_log($t, qr/\[warn\].*is opened anew: environment given up/),
    '>=', 2, 'each worker has noticed');

# while it copies: commands that write wait, others do not. A copy that takes
# long: sync is slow

my $so = ims_shim($dir, 'slow_sync');
ims_kill($pid, 'TERM');
{
    local $ENV{LD_PRELOAD} = $so;
    local $ENV{SLOW_SYNC} = "$dir/slow";
    $pid = ims_pool_start($t);
}
ok(ims_wait(8, sub { ims_identity(user => 'back')->{status} == 200 }),
    'back again');
$t->write_file('slow', '');

my $a = connected();
my $b = connected();
my $c = connected();
$a->send('COMPACT');
ok(ims_wait(5, sub { $c->cmd('INFO') =~ /^copy:compact\r/m }), 'INFO: compact');
unlink "$dir/slow";
$b->send('ACQUIRE', 'web', 'site', 'patient', '0' x 15 . '1', '0' x 32, 0);
$b->send('PING', 'behind');
is($c->cmd('PING'), '+PONG', 'a ping is answered');
like(join(' ', map { ref $_ ? @$_ : $_ } $c->cmd('SHOW', 'USER', 'web',
    'site', 'back')), qr/ leased /, 'and a question');
is($c->cmd('INFO') =~ /^copy:(\w+)/m && $1, 'compact', 'not done meanwhile');
is(join(' ', map { $_->alive() } @flows), join(' ', (1) x @flows),
    'flows are served');
is(ref $a->recv(), 'ARRAY', 'compacted');
is(ref $b->recv(), 'ARRAY', 'who waited has his lease');
is($b->recv(), 'behind', 'and the order is kept');

# stopped while it copies: the one that is there goes on

$t->write_file('slow', '');
$a->send('COMPACT');
ok(ims_wait(5, sub { $c->cmd('INFO') =~ /^copy:compact\r/m }), 'compacting');
my $current = readlink "$dir/pool/current";
kill 'TERM', $pid;
ok($c->closed(5), 'stopping');
unlink "$dir/slow";
ims_kill($pid, 'TERM');
$pid = ims_pool_start($t);
is(readlink "$dir/pool/current", $current, 'as it was');
is(scalar(() = glob "$dir/pool/env.*"), 1, 'and nothing is left');

# killed at each step: a start goes on from whatever is there

$so = ims_shim($dir, 'kill_at');
my ($n, $rounds, @wrong) = (0, 0);

for (;;) {
    ims_kill($pid, 'TERM');
    {
        local $ENV{LD_PRELOAD} = $so;
        local $ENV{KILL_AT} = "$dir/kill";
        $pid = ims_pool_start($t);
    }

    $t->write_file('kill', ++$n);
    my ($status) = ims_poolctl($t, 'compact');
    unlink "$dir/kill";
    last if $status == 0;
    $rounds++;

    ims_kill($pid, 'KILL');
    $pid = ims_pool_start($t);

    my $what = "killed at $n";
    my $current = readlink "$dir/pool/current";
    my @env = map { s{.*/}{}r } glob "$dir/pool/env.*";

    push @wrong, "$what: left @env" if grep { /\./ && !/^env\.\d+$/ } @env;
    push @wrong, "$what: " . scalar(@env) . ' environments' if @env > 2;
    push @wrong, "$what: check" if (ims_poolctl($t, 'check'))[0] != 0;
    push @wrong, "$what: hold" if info('hold_seconds') != 0;

    for my $flow (@flows[map { ($n + $_) % @flows } 0 .. 2]) {
        my ($status, $r) = ims_poolctl($t, 'show', $flow->{id}{lease},
                                       '--json');
        push @wrong, "$what: lost " . $flow->{user}
            if $status != 0 || $r->{state} ne 'leased'
               || $r->{lease} ne $flow->{id}{lease};
    }

    # a browser answers pings meanwhile

    push @wrong, "$what: a flow is closed" if grep { !$_->alive() } @flows;

    last if $n > 60;
}

diag("killed at $rounds steps");
is_deeply(\@wrong, [], "killed at $rounds steps: nothing is lost or left");
cmp_ok($rounds, '>=', 12, 'steps there are');
cmp_ok($n, '<=', 60, 'and an end of them');

ok(ims_wait(8, sub { ims_identity(user => 'after')->{status} == 200 }),
    'given after it');
is(join(' ', map { refreshed($_) } @flows), join(' ', (200) x @flows), 'all flows from before go on');
is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alert');


###############################################################################

# the status of one more REGISTER

sub refreshed {
    my ($c) = @_;

    $c->send($c->{ua}->register());

    my ($m, $link) = $core->request(20);

    if (!$m) {
        my $answer = $c->answer(1);
        return 'lost/' . ($answer ? $answer->{status} : 'silence');
    }

    $core->reply($link, $m, 200, 'OK');

    return ($c->answer(20) // {})->{status} // 0;
}


# an initial request of the client to the core: the status of its answer

sub message {
    my ($c) = @_;

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));

    my ($m, $link) = $core->request(20) or return 0;
    return 1 unless $m->{method} eq 'MESSAGE';
    $core->reply($link, $m, 200, 'OK', contact => '');

    return ($c->answer(20) // {})->{status} // 0;
}


# a request within the call, from each end

sub dialog {
    my @got;

    $talker->send($call->from_client('INFO'));
    my ($m, $link) = $core->request() or return 'lost';
    $core->reply($link, $m, 200, 'OK', contact => '');
    push @got, ($talker->answer() // {})->{status} // 0;

    $core->send($link, $call->from_core('INFO'));
    $m = $talker->answer() or return "@got lost";
    $talker->send(sip_reply($m, 200, 'OK'));
    ($m) = $core->request() or return "@got unanswered";

    return "@got $m->{status}";
}


sub answer_all {
    my ($core) = @_;

    while (my ($m, $link) = $core->request(1)) {
        $core->reply($link, $m, 200, 'OK', contact => '');
    }
}


# a line of INFO

sub info {
    my ($name) = @_;

    return (ims_poolctl($t, 'info', '--json'))[1]{$name};
}


sub connected {
    my $s = IO::Socket::UNIX->new(Peer => "$dir/pool.sock") or die $!;

    return bless { s => $s, buf => '', sel => IO::Select->new($s) },
        'ImsPool::Conn';
}


# a request for an identity, sent and not read

sub ask {
    my ($user) = @_;

    return http_start("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
        . "Origin: http://localhost\r\nContent-Length: 0\r\n"
        . 'Authorization: Basic ' . encode_base64("$user:", '')
        . "\r\n\r\n");
}


sub answer_of {
    my ($s) = @_;

    my $text = '';
    my $end = time() + 8;

    while (IO::Select->new($s)->can_read($end - time())) {
        sysread $s, $text, 65536, length $text or last;
    }

    return { status => $text =~ m{^HTTP/1\.\d (\d+)} ? $1 : 0 };
}

###############################################################################
