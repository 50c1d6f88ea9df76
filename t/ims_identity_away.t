#!/usr/bin/perl

# Tests for ims_identity without its pool manager: away, killed, silent,
# back; one line in the log for an outage, not one a request.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ sleep time /;

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(24);

ims_keys($t);

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

my $away = qr/\[error\].* pool manager at "\S+" is away \(wwsf\)/;
my $back = qr/\[notice\].* pool manager at "\S+" is back \(wwsf\)/;

###############################################################################

# not there yet

my $r = ims_identity(user => 'alice');

is($r->{status}, 503, 'away');
is($r->{json}{error}, 'unavailable', 'why');
like($r->{headers}, qr/^Retry-After: \d+\r?$/mi, 'when to ask again');
like($r->{headers}, qr/^Cache-Control: no-store\r?$/mi, 'not stored');
like($r->{headers}, qr!^Access-Control-Allow-Origin: http://localhost\r?$!mi,
    'a page can read it');

is(ims_identity(user => "user$_")->{status}, 503, "away, $_") for 1 .. 5;
is(ims_count_log($t, $away), 1, 'one line');

# there

my $pid = ims_pool($t);

ok(ims_wait_log($t, $back), 'back by itself');
is(ims_identity(user => 'alice')->{status}, 200, 'served');

my $lease = ims_identity(user => 'alice')->{json}{lease};

# killed while idle, and while requests come

ims_kill($pid, 'KILL');
ok(ims_wait_log($t, $away, count => 2), 'killed, seen at once');
is(ims_identity(user => "user$_")->{status}, 503, "killed, $_") for 1 .. 3;
is(ims_count_log($t, $away), 2, 'one line more');

$pid = ims_pool_start($t);
ok(ims_wait_log($t, $back, count => 2), 'back again');
is(ims_identity(user => 'alice')->{json}{lease}, $lease,
    'nothing was lost');

# it takes commands and does not answer

kill 'STOP', $pid;

my $start = time();

$r = ims_identity(user => 'alice');

is($r->{status}, 503, 'silent');
ok(time() - $start > 1.5 && time() - $start < 8, 'after two seconds');

# one that gives up has lost nothing for the others

my $s = http("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
    . "Origin: http://localhost\r\n\r\n", start => 1);
sleep 0.2;
close $s;

kill 'CONT', $pid;

is(ims_identity(user => 'alice')->{json}{lease}, $lease, 'answers again');
is(ims_count_log($t, qr/pool manager at "\S+" does not answer \(wwsf\)/), 1,
    'and one line for that');

###############################################################################
