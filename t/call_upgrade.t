#!/usr/bin/perl

# Tests for a hundred flows with messages and calls while the binary is
# upgraded, the upgrade taken back, and done again: nothing is closed, lost or
# doubled.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsCore;
use ImsTraffic;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant FLOWS => 100;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss')->plan(26);

my $dir = $t->testdir();
my @masters;

# a master that is its caller's child takes no USR2, so it is a daemon here,
# and ended here whatever happens

END {
    kill 'TERM', grep { is_nginx($_) } @masters;
    ims_wait(5, sub { !grep { is_nginx($_) } @masters });
}

ims_keys($t);
ims_pool($t, size => FLOWS + 10);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2) =~ s/daemon off;/daemon on;/r);

system($ENV{TEST_NGINX_BINARY}, '-p', "$dir/", '-c', 'nginx.conf',
       '-e', 'error.log',
       '-g', "pid $dir/nginx.pid; error_log $dir/error.log info;") == 0
    or die "nginx did not start: " . $t->read_file('error.log') . "\n";
ims_wait(5, sub { -s "$dir/nginx.pid" }) or die "no pid file\n";

###############################################################################

my $old = master();
my $core = ImsCore->new(port(8060));
my $traffic = ImsTraffic->new($core);

$traffic->add() for 1 .. FLOWS / 2;
ok($traffic->round('old'), 'the first binary');

# beside it another one, and the old workers leave

my $new = upgrade($old);
ok($traffic->round('both'), 'two binaries');
kill 'WINCH', $old;
ok($traffic->round('winch'), 'the old workers are told to leave');
left_to($new);
ok($traffic->round('winched'), 'and leave their flows in peace');
$traffic->add() for 1 .. FLOWS / 4;

# taken back

kill 'HUP', $old;
ok($traffic->round('hup'), 'the old binary starts workers again');
kill 'QUIT', $new;
ok($traffic->round('quit'), 'the new one is told to leave');
left_to($old);
ok($traffic->round('back'), 'and leaves its flows in peace');
$traffic->add() for 1 .. FLOWS / 4;

# it is there as long as its flows

ok(is_nginx($new), 'its flows keep it');
is($traffic->closed(), 0, 'no flow is closed');

# the flows of it end, one goes after the other, so that another upgrade can
# follow

my %gone = map { $_ => 1 } flows_of($new);
my @stay = grep { !$gone{$_} } $traffic->flows();
is(scalar @stay, FLOWS - FLOWS / 4, 'flows of the old binary');
$_->{ws}->close() for grep { $gone{$_} } $traffic->flows();
@{$traffic->{flows}} = @stay;
ok(ims_wait(20, sub { $core->silent(0.1); !is_nginx($new) }),
    'the new binary is gone with its last flow');

# done again, for good

$new = upgrade($old);
ok($traffic->round('again'), 'upgraded again');
kill 'WINCH', $old;
kill 'QUIT', $old;
ok($traffic->round('done'), 'the old master is told to quit');
left_to($new);
ok($traffic->round('after'), 'and its flows go on');

my $all = $traffic->sent();
cmp_ok($all, '>', 2500, "$all messages sent");
is(join(' ', $traffic->lost()), '', 'none is lost');
is(join(' ', $traffic->doubled()), '', 'none is doubled');
is(join(' ', $traffic->made_up()), '', 'none is made up');
is($traffic->closed(), 0, 'no flow is closed');
is($traffic->dead(), 0, 'all are served');

# the calls that began with the first binary end after it

my ($ended, $hung_up) = $traffic->hang_up();

is($ended, @stay, 'calls ended by the clients');
is($hung_up, @stay, 'and by the core');
is($traffic->refreshed(), @stay, 'refreshed, each the same flow');

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');
is(ims_count_log($t, qr/exited on signal/), 0, 'nobody died');

$_->{ws}->close() for $traffic->flows();
ok(ims_wait(20, sub { $core->silent(0.1); !is_nginx($old) }),
    'the first binary is gone with its last flow');

###############################################################################

sub master {
    my $pid = $t->read_file('nginx.pid') + 0;
    push @masters, $pid unless grep { $_ == $pid } @masters;

    return $pid;
}


sub upgrade {
    my ($master) = @_;

    kill 'USR2', $master;
    ims_wait(10, sub {
        -s "$dir/nginx.pid.oldbin" && -s "$dir/nginx.pid"
            && $t->read_file('nginx.pid') != $master
    }) or die "no new binary: " . (ims_run('tail', '-5', "$dir/error.log"))[1];

    my $pid = master();
    ims_wait(10, sub { workers($pid) == 2 }) or die "it has no workers\n";

    return $pid;
}


# all workers but that master's have been told to leave

sub left_to {
    my ($master) = @_;

    my @pids = map { workers($_) } grep { $_ != $master && is_nginx($_) }
        @masters;

    ims_wait(10, sub {
        my $log = $t->read_file('error.log');
        return !grep { $log !~ / $_#\d+: gracefully shutting down/ } @pids;
    }) or die "workers were not told to leave\n";

    ims_wait(10, sub { workers($master) >= 2 }) or die "no workers\n";
}


# that process, if it is still our nginx

sub is_nginx {
    my ($pid) = @_;

    open my $f, '<', "/proc/$pid/cmdline" or return 0;

    return (<$f> // '') =~ /\Q$dir\E/;
}


sub workers {
    my ($master) = @_;

    return split ' ', (ims_run('pgrep', '-P', $master, '-f', 'worker'))[1];
}


# flows whose connections are with workers of that master; ss may miss one while
# processes come and go, so it is asked until it has told of all

sub flows_of {
    my ($master) = @_;

    my %worker = map { $_ => 1 } workers($master);
    my %pid;

    ims_wait(10, sub {
        my (undef, $out) = ims_run('ss', '-Htnp');
        $pid{$1} = $2 while $out =~ /:(\d+)\s+users:.*"nginx",pid=(\d+)/g;
        !grep { !$pid{$_->{ws}{s}->sockport()} } $traffic->flows();
    });

    return grep { $worker{$pid{$_->{ws}{s}->sockport()} // 0} }
        $traffic->flows();
}

###############################################################################
