#!/usr/bin/perl

# Tests for purges by the edge that come too late: none is sent after its time,
# and no answer counts after its own.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw/ sleep time /;

use Ims;
use ImsClient;
use ImsCore;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(21);
my $dir = $t->testdir();

ims_keys($t);
ims_purge_pool($t, size => 40);

# one identity each, D 3 s; a lease of 4 s is too short to be worth it

for (['brief', 7], ['never', 4]) {
    ims_poolctl($t, 'pool', 'create', $_->[0], 'ims.example', '--ttl',
        $_->[1], '--ttl-max', $_->[1], qw/ --delay 3 --margin 1 --purge on /);
    ims_poolctl($t, 'import', $_->[0], '--range',
        "sip:$_->[0]-[1-1]\@ims.example");
}

# what the pool manager says of purges takes a while as long as that file is
# there

my $slow = "$dir/slow";
my $conf = ims_conf($t, http => 'ims_link_queue 64m;'
    . ' ims_flow_transactions 2000;', issuer => 'pool brief never;');
$conf =~ s{socket=\S+}{socket=$dir/relay.sock};
$t->write_file_expand('nginx.conf', $conf);
$t->run_daemon(\&relay, "$dir/relay.sock", "$dir/pool.sock", $slow);
ims_wait(10, sub { -S "$dir/relay.sock" });
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $i);

# late and silent answers: the core holds them while others are looked at

my @held = map { {} } 1 .. 2;
for (@held) {
    $_->{i} = ims_ended($t);
    @$_{qw/ m link /} = $core->request(10);
    $_->{at} = time();
}

# an answer of the pool manager that came too late to act on

$t->write_file('slow', '');
my $told;
for (1 .. 3) {
    $i = ims_ended($t);
    $told = ims_wait_log($t,
        qr/\Q$i->{lease}\E is not purged: too late to send/, seconds => 4);
    last if $told;      # else it was so late that the answer was given up
}
ok($told, 'given out, but too late');
ok($core->silent(1), 'nothing is sent');
cmp_ok(ims_rest($t, $i), '>', 500, 'it rests');
cmp_ok(counters()->{purge_skipped}, '>=', 1, 'counted');
unlink $slow;

# one that waits for a core that takes nothing: dropped, not sent later

my $c = ImsClient->new(user => 'busy');
($m, $link) = $c->registered($core);
my $late = counters()->{core_late};

$c->send($c->{ua}->request('MESSAGE', to => 'sip:web-000040@ims.example',
                           body => 'x' x 60000)) for 1 .. 400;
ok(ims_wait(20, sub { counters()->{originating} >= 400 }),
    'more than a socket takes');

$i = ims_ended($t);
ok(ims_wait_log($t, qr/\Q$i->{lease}\E is purged at the core/), 'queued');

# its time is a second, as D is here

sleep 1.3;

my ($messages, $stars) = (0, 0);
while (($m, $link) = $core->request(2)) {
    ims_star($m) ? $stars++ : $messages++;
}
cmp_ok($messages, '>', 0, 'what was before it comes');
is($stars, 0, 'it does not');
cmp_ok(counters()->{core_late}, '>', $late, 'dropped in the queue');
cmp_ok(ims_rest($t, $i), '>', 500, 'it rests');

# a core that sits on it: it never meets a new holder, since that is D away at
# the least, from what ended as from who comes

my $ended = time();
$i = ims_ended($t, pool => 'brief');
ims_ended($t, pool => 'never');
($m, $link) = $core->request(10);
my $sent = time();
is(sip_header($m, 'To'), '<sip:brief-1@ims.example>', 'sent');
cmp_ok($sent - $ended, '>=', 3, 'D after the end');

my $next = holder('brief');
cmp_ok(time() - $sent, '>=', 3, 'and D before somebody else begins');
is($next->{impu}, $i->{impu}[0], 'with the same identity');
ok($core->silent(0.1), 'none was sent since');
holder('never');
ok($core->silent(0.1), 'nor one that would have been too close to another');

# the silent one, and the late one

my $left = 33 - (time() - $held[1]{at});
sleep $left if $left > 0;
ok(ims_wait_log($t, qr/was not purged: no answer of the core in time/,
    count => 3, seconds => 15), 'no answer in time');

my $done = counters()->{purge_done};
ims_gone($core, $held[0]{link}, $held[0]{m});
ok($core->silent(1.5), 'a late answer');
is(counters()->{purge_done}, $done, 'is no proof');
cmp_ok(ims_rest($t, $held[0]{i}), '>', 500, 'of the late one');
cmp_ok(ims_rest($t, $held[1]{i}), '>', 500, 'nor is silence');

###############################################################################

sub counters { return ims_status()->{counters} }


# the next one who gets an identity of that pool

sub holder {
    my ($pool) = @_;

    my ($status, $answer);

    ims_wait(20, sub {
        ($status, $answer) = ims_poolctl($t, '--json', 'acquire', $pool,
                                         'next');
        $status == 0;
    });

    return $answer;
}


# between nginx and the pool manager: arrays of arrays are answers to PURGE
# NEXT, and those that are not empty wait here if told so

sub relay {
    my ($own, $peer, $flag) = @_;

    my $listen = IO::Socket::UNIX->new(Local => "$own.new", Listen => 16)
        or die "relay: $!\n";
    rename "$own.new", $own;
    my $sel = IO::Select->new($listen);
    my %other;

    local $SIG{PIPE} = 'IGNORE';

    while (1) {
        for my $s ($sel->can_read(1)) {

            if ($s == $listen) {
                my $a = $listen->accept() or next;
                my $b = IO::Socket::UNIX->new(Peer => $peer) or next;
                $sel->add($a, $b);
                @other{$a, $b} = ([$b, 0], [$a, 1]);
                next;
            }

            my ($to, $answer) = @{$other{$s}};

            if (!sysread $s, my $data, 65536) {
                $sel->remove($s, $to);
                close $_ for $s, $to;

            } else {
                sleep 1.5 if $answer && -e $flag && $data =~ /^\*[1-9]\r\n\*/;
                syswrite $to, $data;
            }
        }
    }
}

###############################################################################
