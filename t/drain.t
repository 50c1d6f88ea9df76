#!/usr/bin/perl

# Tests for workers that leave: flows stay over a reload unless asked not to,
# go one by one at the end, those in a call last; the shutdown timer; and how
# the core is told.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant FLOWS => 20;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(25);

ims_keys($t);
ims_pool($t, size => FLOWS + 10);

conf(main => '');
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));

# a reload: the old worker stays as long as its flow

my $first = ImsClient->new();
$first->registered($core);
my $old = workers();

conf(drain_after => '1s');
again();

my $second = ImsClient->new();
$second->registered($core);
isnt((workers())[0], $old, 'there is another worker');

sleep 2.5;
ok($first->alive(), 'a flow stays over a reload');
is(($first->registered($core))[2]{status}, 200, 'and is of use');

# a reload, and an end of the old worker's time

my $from = time();
conf(main => 'worker_shutdown_timeout 1s;');
again();

is(($second->{ws}->closed(6))[0], 1001, 'ims_drain_after: 1001');
cmp_ok(time() - $from, '>', 0.9, 'not at once');
ok($first->alive(), 'another worker has another time');

my $third = ImsClient->new();
$third->registered($core);

# the shutdown timer waits for nobody

$from = time();
my ($mine) = workers();
conf(main => '', drain_time => '2s');
again();

is(($third->{ws}->closed(6))[0], 1001, 'worker_shutdown_timeout: 1001');
cmp_ok(time() - $from, '>', 0.9, 'not before it');
cmp_ok(time() - $from, '<', 10, 'not long after it');
ok(ims_wait_log($t, qr/worker process $mine exited with code 0/),
    'and its worker leaves');
ok($first->alive(), 'the oldest serves on');

# the last flow of a worker goes: so does the worker

$first->{ws}->close();
ok(ims_wait_log($t, qr/worker process $old exited with code 0/),
    'a worker leaves with its last flow');

# a shutdown: one after the other, calls last

my @clients = map { ImsClient->new() } 1 .. FLOWS;
$_->registered($core) for @clients;
my $caller = $clients[0];
call($caller);

# it comes back meanwhile: the call is still one

$caller->connect();
$caller->registered($core);

my ($worker) = workers();
my %closed = map { $_ => undef } 0 .. $#clients;
my ($link) = ($core->links())[-1];
$from = time();
my $master = $t->read_file('nginx.pid') + 0;
kill 'QUIT', $master;

my %code;
my $sel = IO::Select->new(map { $_->{ws}{s} } @clients);

while ($sel->count() && time() - $from < 40) {
    for my $s ($sel->can_read(0.5)) {
        my ($n) = grep { $clients[$_]{ws}{s} == $s } 0 .. $#clients;
        $code{($clients[$n]{ws}->closed(1))[0] // 'none'}++;
        $closed{$n} = time() - $from;
        $sel->remove($s);
    }
}

is_deeply(\%code, { 1001 => FLOWS }, 'all are told');

my @order = sort { $closed{$a} <=> $closed{$b} } 0 .. $#clients;
is($order[-1], 0, 'the one in a call is the last');

my $spread = $closed{$order[-2]} - $closed{$order[0]};
cmp_ok($spread, '>', 0.4, 'spread over the time');
cmp_ok($spread, '<', 8, 'and not far beyond it');

# the core reads a FIN, and may still say something

ok(ims_wait(5, sub { eof_of($link) }), 'the link is half-closed');
ok(defined syswrite($link, "\r\n\r\n"), 'the other half is open');
ok(ims_wait(5, sub { ss_of($worker) =~ /FIN-WAIT-2/ }),
    'the worker waits for our FIN');
sleep 0.3;
ok(-e "/proc/$worker", 'and reads what is said');
$_->close() for $core->links();

ok(ims_wait_log($t, qr/worker process $worker exited with code 0/),
    'then it leaves');
ok(ims_wait(5, sub { !-e $t->testdir() . '/nginx.pid' }), 'nginx is gone');
is_deeply([glob $t->testdir() . '/state/*.sock'], [], 'no sockets are left');
is(ims_count_log($t, qr/\[alert\]/), 0, 'no alerts');
is(ims_count_log($t, qr/open socket/), 0, 'nothing was left open');

ims_left($t, $master);

###############################################################################

sub conf {
    my (%o) = @_;

    $t->write_file_expand('nginx.conf', ims_conf($t, workers => 1, %o));
}


# reload, and wait for the new worker and for the old one's listening end

sub again {
    my %before = map { $_ => 1 } workers();

    $t->reload();
    ims_wait(5, sub { grep { !$before{$_} } workers() })
        or die "no new worker\n";
    ims_wait(5, sub {
        my @left = grep { $before{$_} } workers();
        my $log = $t->read_file('error.log');
        return !grep { $log !~ / \[notice\] $_#\d+: gracefully/ } @left;
    }) or die "the old worker does not leave\n";
}


# newest first; process numbers start anew some time

sub workers {
    my ($master) = $t->read_file('nginx.pid') =~ /(\d+)/;
    my %born = map { $_ => born($_) } split ' ', `pgrep -P $master`;
    my @pids = sort { $born{$b} <=> $born{$a} } keys %born;

    return wantarray ? @pids : $pids[0];
}


sub born {
    my ($pid) = @_;

    open my $f, '<', "/proc/$pid/stat" or return 0;

    return (split ' ', (<$f> // '') =~ s/^.*\) //r)[19] // 0;
}


# a call from the core that the client takes

sub call {
    my ($c) = @_;

    $c->send($c->{ua}->register());
    my ($m, $link) = $core->request();
    $core->reply($link, $m, 200, 'OK');
    $c->answer();

    my ($route) = sip_header($m, 'Path');
    $core->send($link, join "\r\n",
        'INVITE ' . $c->{ua}->contact() . ' SIP/2.0',
        'Via: SIP/2.0/TCP 127.0.0.1:' . port(8060) . ';branch=z9hG4bKcall',
        'Max-Forwards: 60', "Route: $route",
        'From: <sip:bob@ims.example>;tag=b1', "To: <$c->{id}{impu}>",
        'Call-ID: drain-call', 'CSeq: 1 INVITE',
        'Contact: <sip:bob@192.0.2.1>', 'Content-Length: 0', '', '');

    my $invite = $c->answer();
    $c->send(sip_reply($invite, 200, 'OK', to_tag => 'a1',
        contact => '<' . $c->{ua}->contact() . '>',
        extra => [ map { "Record-Route: $_" }
                   sip_headers($invite, 'Record-Route') ]));

    for (1 .. 2) {
        my ($r) = $core->request();
        return if $r && $r->{status} == 200;
    }

    die "the call was not taken\n";
}


sub eof_of {
    my ($s) = @_;

    return 0 unless IO::Select->new($s)->can_read(0);

    my $n = sysread $s, my $buf, 4096;

    return defined $n && $n == 0;
}


sub ss_of {
    my ($pid) = @_;

    return join '', grep { /pid=$pid,/ } `ss -Htnp 2>/dev/null`;
}

###############################################################################
