#!/usr/bin/perl

# Tests for 200 reloads in a row with a flow that lives through all of them:
# its worker and the newest one read the same pool, and no reload leaves a
# process, a socket's name, or a slot of a reader behind.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(15);

use constant RELOADS => 200;

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t, lease_check => '300ms',
    grace => '300s', drain_time => '100ms'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $dir = $t->testdir();
my $master = $t->read_file('nginx.pid') + 0;

my $old = ImsClient->new();
$old->registered($core);

my ($first) = workers();
my $before = info();

# reloaded; now and then a user of the new worker comes, and the old flow
# refreshes

my ($reloads, $users, $refreshed) = (0, 0, 0);

for my $n (1 .. RELOADS) {
    kill 'HUP', $master;
    last unless ims_wait(30, sub {
        my @w = workers();
        @w && $w[-1] != $first && @w <= 2 && fresh($w[-1]);
    });
    $reloads++;

    next if $n % 20;

    my $c = ImsClient->new();
    $c->registered($core);
    $users++ if $c->alive();
    $c->send($c->{ua}->register(expires => 0));
    answer($core->request());
    $c->answer();
    $c->{ws}->close(1000);

    $old->send($old->{ua}->register());
    answer($core->request());
    $refreshed++ if ($old->answer() // { status => 0 })->{status} == 200;
}

is($reloads, RELOADS, 'reloads');
is($users, RELOADS / 20, 'new workers serve');
is($refreshed, RELOADS / 20, 'the first worker does');

# what is left

ok(ims_wait(10, sub { workers() == 2 }), 'two workers: the first, the last');
ok((grep { $_ == $first } workers()), 'the first one lives');
ok(ims_wait(10, sub { (() = glob "$dir/state/*.sock") <= 2 }),
    'names of sockets');

my $after = info();
cmp_ok($after->{readers}, '<=', $before->{readers} + 8, 'slots of readers: '
    . "$before->{readers}, then $after->{readers}");
is($after->{incarnation}, $before->{incarnation}, 'the same pool manager');
is(ims_status()->{flows}, 1, 'flows');

# both of them see what happens now

my $new = ImsClient->new();
$new->registered($core);

for my $c ($old, $new) {
    ims_poolctl($t, 'revoke', 'lease', $c->{id}{lease});
    is(($c->{ws}->closed(5))[0], 1008, 'revoked: closed');
    my ($m, $link) = $core->request(5);
    is($m && sip_header($m, 'Expires'), 0, 'and taken back');
    answer($m, $link);
}

ok(ims_wait(10, sub { !grep { $_ == $first } workers() }),
    'the first worker leaves with its last flow');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################

sub answer {
    my ($m, $link) = @_;

    $core->reply($link, $m, 200, 'OK') if $m;
}


sub info {
    my (undef, $json) = ims_poolctl($t, 'info', '--json');

    return $json;
}


# the master's children, oldest first

sub workers {
    my @pids;

    for my $dir (glob "/proc/[0-9]*") {
        open my $f, '<', "$dir/stat" or next;
        my ($pid, $state, $ppid, $start) =
            (<$f> // '') =~ /^(\d+) \(.*\) (\S) (\d+) (?:\S+ ){17}(\d+)/s
            or next;
        push @pids, [$pid, $start] if $ppid == $master && $state ne 'Z';
    }

    return map { $_->[0] } sort { $a->[1] <=> $b->[1] || $a->[0] <=> $b->[0] }
        @pids;
}


# one that was not there at the reload before

sub fresh {
    my ($pid) = @_;

    our $last;
    return 0 if defined $last && $last == $pid;
    $last = $pid;

    return 1;
}

###############################################################################
