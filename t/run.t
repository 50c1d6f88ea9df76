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

plan(tests => 29);

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

# an error that is told of

($status, $out) = ims_run(@run, '--origin', 'example.org');
like($out, qr/is not an origin/, 'bad origin');

###############################################################################

sub start {
    my $log = "$dir/run.log";
    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        exec @run or POSIX::_exit(127);
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


sub slurp {
    open my $f, '<', $_[0] or return '';
    local $/;
    return scalar(<$f>) // '';
}

###############################################################################
