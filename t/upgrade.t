#!/usr/bin/perl

# Tests for an upgrade of the binary with live flows, taken back once and then
# done: USR2, WINCH, HUP, QUIT.  Workers of two masters share one flow table.

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

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss')->plan(34);

my $dir = $t->testdir();
my @masters;

# a master that is its caller's child takes no USR2, so it is a daemon here,
# and ended here whatever happens

END {
    kill 'TERM', grep { is_nginx($_) } @masters;
    ims_wait(5, sub { !grep { is_nginx($_) } @masters });
}

ims_keys($t);
ims_pool($t, size => 30);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 2) =~ s/daemon off;/daemon on;/r);

system($ENV{TEST_NGINX_BINARY}, '-p', "$dir/", '-c', 'nginx.conf',
       '-e', 'error.log',
       '-g', "pid $dir/nginx.pid; error_log $dir/error.log debug;") == 0
    or die "nginx did not start: " . $t->read_file('error.log') . "\n";
ims_wait(5, sub { -s "$dir/nginx.pid" }) or die "no pid file\n";

###############################################################################

my $old = master('nginx.pid');
my $core = ImsCore->new(port(8060));
my $in = $core->connect(port(8070));
my %path;

ok(ims_wait(5, sub { workers($old) == 2 }), 'two workers');
my @first = workers($old);
my @flows = flows(4);

# a second binary beside the first

my $new = upgrade($old);
ok(is_nginx($new), 'a new master');
ok(ims_wait(5, sub { workers($new) == 2 }), 'with workers');
is(served(@flows), 4, 'flows are served');
is(reached(@flows), 4, 'and reached, whoever takes it from the core');

# the old workers are told to leave; they keep their flows

kill 'WINCH', $old;
ok(leaving(@first), 'old workers leave');

my @later = flows(4);
is(scalar(grep { is_of($new, $_) } @later), 4, 'new flows at the new binary');
sleep 6;
is(served(@flows), 4, 'old flows stay');
$in = $core->connect(port(8070));
is(reached(@flows, @later), 8, 'all are reached');

# a client of the old one comes back at the new one: the same slot

my $c = $flows[0];
my $before = $c->{ws};
$c->connect();
my ($m) = $c->registered($core);
is(sip_header($m, 'Path'), $path{$c}, 'taken over, across binaries');
is(($before->closed(3))[0], 1008, 'the old connection is closed');
is(reached($c), 1, 'and it is reached');

# taken back: the first binary serves on, the second keeps what it has

kill 'HUP', $old;
ok(ims_wait(5, sub { grep { my $p = $_; !grep { $_ == $p } @first }
    workers($old) }), 'the first master has new workers');
my @second = workers($new);
kill 'QUIT', $new;
ok(leaving(@second), 'those of the second leave');
sleep 6;
is(served(@flows, @later), 8, 'no flow is closed');
$in = $core->connect(port(8070));
is(reached(@flows, @later), 8, 'nor out of reach');

my @back = flows(2);
is(scalar(grep { is_of($old, $_) } @back), 2, 'new flows at the old binary');

# the second one goes with its last flow

$_->{ws}->close() for @later, $c;
ok(ims_wait(8, sub { $core->silent(0.1); !is_nginx($new) }),
    'the second binary left');
ok(ims_wait(5, sub { -s "$dir/nginx.pid" }), 'the first has its pid file');
is(master('nginx.pid'), $old, 'and is nginx again');
shift @flows;

# once more, and for good

my @third = workers($old);
$new = upgrade($old);
ok(ims_wait(5, sub { workers($new) == 2 }), 'upgraded again');
kill 'WINCH', $old;
ok(leaving(@third), 'old workers leave');
kill 'QUIT', $old;

sleep 6;
is(served(@flows, @back), 5, 'flows stay with a master that was told to quit');
$in = $core->connect(port(8070));
is(reached(@flows, @back), 5, 'and are reached');

$c = $back[0];
$c->connect();
($m) = $c->registered($core);
is(sip_header($m, 'Path'), $path{$c}, 'from the respawned to the upgraded');

$_->{ws}->close() for @flows, $back[1];
ok(ims_wait(8, sub { $core->silent(0.1); !is_nginx($old) }),
    'the old binary left');
is(served($c), 1, 'the new one serves on');
$in = $core->connect(port(8070));
is(reached($c), 1, 'and is reached');

# the end of it

kill 'QUIT', $new;
is(($c->{ws}->closed(10))[0], 1001, 'quit');
ok(ims_wait(8, sub { $core->silent(0.1); !is_nginx($new) }), 'gone');
is_deeply([glob "$dir/state/*.sock"], [], 'no sockets are left');
is(ims_count_log($t, qr/exited on signal/), 0, 'nobody died');
is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 0, 'no alerts');
is(ims_count_log($t, qr/takes effect when no worker|another table/), 0,
    'one table for all');

###############################################################################

sub master {
    my ($file) = @_;

    my $pid = $t->read_file($file) + 0;
    push @masters, $pid unless grep { $_ == $pid } @masters;

    return $pid;
}


# USR2: the new master's process

sub upgrade {
    my ($master) = @_;

    kill 'USR2', $master;
    ims_wait(8, sub {
        -s "$dir/nginx.pid.oldbin" && -s "$dir/nginx.pid"
            && $t->read_file('nginx.pid') != $master
    }) or die "no new binary: " . (ims_run('tail', '-5', "$dir/error.log"))[1];

    return master('nginx.pid');
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


sub leaving {
    my (@pids) = @_;

    return ims_wait(5, sub {
        my $log = $t->read_file('error.log');
        return !grep { $log !~ / $_#\d+: gracefully shutting down/ } @pids;
    });
}


sub flows {
    my ($n) = @_;

    my @new = map { ImsClient->new() } 1 .. $n;
    $path{$_} = sip_header(($_->registered($core))[0], 'Path') for @new;

    return @new;
}


# is a client's connection with a worker of that master

sub is_of {
    my ($master, $c) = @_;

    my $pid = ims_owner($c->{ws}{s}) // return 0;

    return scalar grep { $_ == $pid } workers($master);
}


# how many can refresh their registration, with the same slot

sub served {
    return scalar grep {
        my ($m, undef, $answer) = $_->registered($core);
        $answer && $answer->{status} == 200
            && sip_header($m, 'Path') eq $path{$_}
    } @_;
}


# how many get a message that comes in on one connection of the core

sub reached {
    my $n = 0;

    for my $c (@_) {
        my $id = 'm' . int rand 1e9;

        $core->send($in, join "\r\n",
            'MESSAGE ' . $c->{ua}->contact() . ' SIP/2.0',
            'Via: SIP/2.0/TCP 127.0.0.1:' . port(8060) . ";branch=z9hG4bK$id",
            'Max-Forwards: 60', "Route: $path{$c}",
            'From: <sip:bob@ims.example>;tag=b1', "To: <$c->{id}{impu}>",
            "Call-ID: $id", 'CSeq: 1 MESSAGE', 'Content-Length: 0', '', '');

        my $m = $c->answer(3) or next;
        next unless (sip_header($m, 'Call-ID') // '') eq $id;

        $c->send(sip_reply($m, 200, 'OK', to_tag => 'a'));

        my ($r, $link) = $core->request(3);
        $n++ if $r && $r->{status} == 200 && $link == $in;
    }

    return $n;
}

###############################################################################
