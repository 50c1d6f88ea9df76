#!/usr/bin/perl

# Tests for calls of the page: two headless Chromium browsers with fake
# devices call each other through nginx and the core, and nginx is reloaded
# meanwhile. Screenshots are left in IMS_SHOTS, if that is set.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsNode;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('kamailio')
    ->has_daemon('chromium');

node_ready($t)->plan(18);

my $port = port(8443);
my $dir = $t->testdir();

ims_keys($t);
ims_cert($t);
ims_pool($t);
ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    locations => <<"EOL"));

        location / {
            root  $Ims::ROOT/wic/dist;
            types { text/html html; text/css css; text/javascript js; }
        }
EOL

$t->run();

###############################################################################

my $shots = $ENV{IMS_SHOTS} // "$dir/shots";
my $master = $t->read_file('nginx.pid') + 0;

my $status = node_checks($t, 15, 'browser_call.mjs', '--base',
    "https://localhost:$port", '--shots', $shots, '--nginx', $master);

is($status, 0, 'driver');

my @bad = qw/ sip_bad sip_policy sip_refused dialog_forged response_lost
    response_unmatched response_from_client core_bad core_timeout
    deliver_bad deliver_full flow_token_forged flow_token_dead /;
my $counters = ims_status()->{counters};
is_deeply([map { $counters->{$_} // 'none' } @bad], [map { 0 } @bad],
    'nothing was dropped or refused');

# the other one has only been closed, and has a while to come back

is(scalar keys %{ims_core_bindings($t)}, 1, 'signed out at the core');

###############################################################################
