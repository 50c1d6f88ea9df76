#!/usr/bin/perl

# Tests for 200 flows with messages and calls while nginx is reloaded ten times
# in a row: nothing is closed, lost or doubled.

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

use constant { FLOWS => 200, RELOADS => 10 };

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(14);

ims_keys($t);
ims_pool($t, size => 250);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $traffic = ImsTraffic->new($core);

# the last ten are made one after each reload, so that all generations have
# one

$traffic->add() for 1 .. FLOWS - RELOADS;

my $master = $t->read_file('nginx.pid') + 0;

for my $r (1 .. RELOADS) {
    kill 'HUP', $master;
    $traffic->round("$r-during");
    ims_wait_log($t, qr/gracefully shutting down/, count => 2 * $r);
    $traffic->add();
    $traffic->round("$r-after");
}

my $all = $traffic->sent();
cmp_ok($all, '>', 15000, "$all messages sent");
is(join(' ', $traffic->lost()), '', 'none is lost');
is(join(' ', $traffic->doubled()), '', 'none is doubled');
is(join(' ', $traffic->made_up()), '', 'none is made up');

is($traffic->closed(), 0, 'no flow is closed');
is($traffic->dead(), 0, 'all are served');

# the calls that began before end after

my ($ended, $hung_up) = $traffic->hang_up();

is($ended, FLOWS, 'calls ended by the clients');
is($hung_up, FLOWS, 'and by the core');
is($traffic->refreshed(), FLOWS, 'refreshed, each the same flow');

my $counters = ims_status()->{counters};
is($counters->{$_}, 0, "none of $_")
    for qw/ flow_lost response_lost response_unmatched core_timeout /;
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################
