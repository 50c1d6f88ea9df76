#!/usr/bin/perl

# Tests for scripts/run: the demo comes up, --check walks the call flow,
# what was started is stopped, and the second start finds the first's data.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use File::Temp qw/ tempdir /;
use IO::Socket::INET;
use IO::Socket::IP;
use POSIX qw/ WNOHANG /;

use Ims;
use ImsNode;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

plan(skip_all => 'no kamailio')
    unless grep { -x "$_/kamailio" } split /:/, $ENV{PATH};

node_ready();

plan(tests => 47);

ims_module();
ims_program('ims-poolmgr');

# below /tmp by another name than nginx-tests', open to its user

my $dir = tempdir('ims-run-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;

my ($http, $https, $edge, $core) = map { port($_) } 8080, 8443, 8070, 8060;

$ENV{IMS_BUILD} = $Ims::BUILD;
$ENV{IMS_CORE_PORT} = $core;

my @run = ("$Ims::ROOT/scripts/run", '--dir', "$dir/demo", '--http-port',
    $http, '--https-port', $https, '--edge-port', $edge, '--pool-size', 5);

###############################################################################

# the check

my ($status, $out) = ims_run(@run, '--check');

is($status, 0, 'check') or diag($out);

for my $step (1 .. 10) {
    like($out, qr/^ok $step - /m, "step $step");
}

like($out, qr/integrity-protected="auth-done"/, 'as the core got it');
like($out, qr/^ok 9 .* answers 180 200, .* packets of plain RTP/m,
    'a call with media');
unlike($out, qr/eyJ[\w-]{10}/, 'no token is shown');
ok(gone(), 'stopped after the check');

my ($lease) = $out =~ /IMPI (\S+)\), lease/;

# foreground; data of the first start; SIGTERM

my ($pid, $log) = start();
ok(ims_wait(20, sub { slurp($log) =~ /Ctrl-C stops it/ }), 'started')
    or diag(slurp($log));

like(http_get('/'), qr/<title>/, 'page');
ok(ims_status(), 'status');

my $id = ims_identity(user => 'check', origin => "http://localhost:$http",
    host => "localhost:$http");
is($id->{status}, 200, 'identity');
is($id->{json}{impi}, $lease, 'the same user, the same identity');
is($id->{json}{ws_uri}, "ws://localhost:$http/ims/ws", 'uri of the edge');

(my $second, $out) = ims_run(@run);
is($second, 1, 'second one refused');
like($out, qr/another one is running/, 'and why');

kill 'TERM', $pid;
waitpid $pid, 0;
is($?, 0, 'ended well');
ok(gone(), 'stopped');

# a core that is not there: the check says at which step

($status, $out) = ims_run(@run, '--check', '--core', "127.0.0.1:$core");
is($status, 1, 'check without a core');
like($out, qr/^ok 3 .*^not ok - step 4\S* .*: answered 503/ms, 'which step');
ok(gone(), 'stopped after that');

# a core elsewhere is told of an address of the edge that it can reach

SKIP: {
    skip 'no ::1', 2
        unless IO::Socket::IP->new(LocalHost => '::1', Listen => 1);

    ($pid, $log) = start(@run, '--core', "[::1]:$core");
    ok(ims_wait(20, sub { slurp($log) =~ /Ctrl-C stops it/ }),
        'a core by its address') or diag(slurp($log));
    like(slurp("$dir/demo/nginx.conf"),
        qr/ims_listen \[::1\]:$edge advertise=\[::1\]:$edge;/,
        'the edge listens where the core sees it');
    kill 'TERM', $pid;
    waitpid $pid, 0;
}

# all of it by the environment; Ctrl-C, which all processes of a terminal get

{
    local %ENV = (%ENV, IMS_HTTP_PORT => $http, IMS_HTTPS_PORT => $https,
        IMS_EDGE_PORT => $edge, IMS_WORKERS => 1, IMS_POOL_SIZE => 3,
        IMS_DIR => "$dir/environment",
        IMS_ORIGINS => 'https://a.example http://b.example:81');

    ($pid, $log) = start($run[0]);
    ok(ims_wait(20, sub { slurp($log) =~ /Ctrl-C stops it/ }),
        'started by the environment') or diag(slurp($log));
}

ok(ims_wait(5, sub { ims_status()->{workers} == 1 }), 'workers');
is_deeply([map { ims_identity(user => 'u', origin => $_)->{status} }
        'https://a.example', 'http://b.example:81',
        "http://localhost:$http"], [200, 200, 403], 'origins');

my $stat = (ims_run("$Ims::BUILD/ims-poolctl", '--json', '-s',
    "$dir/environment/sock/pool", 'pool', 'stat', 'web'))[1];
like($stat, qr/"total":\s*3\b/, 'size of the pool');

kill 'INT', -$pid;
waitpid $pid, 0;
is($?, 0, 'Ctrl-C ends it well');
ok(gone(), 'all of it');

# the same as options

($pid, $log) = start(@run, '--origin', 'https://a.example', '--origin',
    'http://b.example:81', '--workers', 3);
ok(ims_wait(20, sub { slurp($log) =~ /Ctrl-C stops it/ }),
    'started by options') or diag(slurp($log));
ok(ims_wait(5, sub { ims_status()->{workers} == 3 }), 'workers');
is_deeply([map { ims_identity(user => 'u', origin => $_)->{status} }
        'https://a.example', 'http://b.example:81',
        "http://localhost:$http"], [200, 200, 403], 'origins');
kill 'TERM', $pid;
waitpid $pid, 0;

# stopped while it builds: no compiler goes on, and it is no success

mkdir "$dir/bin";
open my $f, '>', "$dir/bin/make" or die;
print $f "#!/bin/sh\nsleep 100 &\necho \$! >$dir/bin/pid\nwait\n";
close $f;
chmod 0755, "$dir/bin/make";

{
    local %ENV = (%ENV, PATH => "$dir/bin:$ENV{PATH}");
    delete local $ENV{IMS_BUILD};
    ($pid, $log) = start(@run);
}

ok(ims_wait(20, sub { -s "$dir/bin/pid" }), 'builds') or diag(slurp($log));
kill 'TERM', $pid;
waitpid $pid, 0;
is($? >> 8, 1, 'stopped while it builds');
my $compiler = slurp("$dir/bin/pid") + 0;
ok(ims_wait(5, sub { (state($compiler) // 'Z') eq 'Z' }),
    'and what built is stopped');

# errors that are told of

for my $case (
    [qr/is not an origin/, '--origin', 'example.org'],
    [qr/port $http is both http and edge/, '--edge-port', $http],
    [qr/there is no port 65536/, '--edge-port', 65536],
    [qr/--core: there is no host "nowhere\.invalid"/, '--core',
        'nowhere.invalid:5060'])
{
    my ($text, @option) = @$case;
    ($status, $out) = ims_run(@run, @option);
    like("$status $out", qr/^1 .*$text/s, "@option");
}

my $taken = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$edge", ReuseAddr => 1,
    Listen => 1) or die "no socket: $!\n";
($status, $out) = ims_run(@run);
like("$status $out", qr/^1 .*port $edge is taken/s, 'a port that is taken');

###############################################################################

sub start {
    my @command = @_ ? @_ : @run;
    my $log = "$dir/run.log";
    my $pid;

    unlink $log;
    $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        setpgrp;
        $SIG{INT} = 'DEFAULT';      # who runs tests in the background has none
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        exec @command or POSIX::_exit(127);
    }

    return ($pid, $log);
}


# no port is listened on any more

sub gone {
    return ims_wait(5, sub {
        !grep { IO::Socket::INET->new("127.0.0.1:$_") }
            $http, $https, $edge, $core;
    });
}


# a process's state, undef if it is gone

sub state {
    my ($text) = slurp("/proc/$_[0]/stat") =~ /\) (\S)/;
    return $text;
}


sub slurp {
    open my $f, '<', $_[0] or return '';
    local $/;
    return scalar(<$f>) // '';
}

###############################################################################
