#!/usr/bin/perl

# Tests for the page in a headless Chromium over https, against everything
# real: signed in, registered, renewed, come back, signed out. Screenshots
# are left in IMS_SHOTS, if that is set.

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

node_ready($t)->plan(13);

my $port = port(8443);
my $dir = $t->testdir();

ims_keys($t);
ims_cert($t);

# leases short enough to see one renewed

ims_pool($t, args => [qw/ --ttl 20 --min-expires 5 /]);
ims_core($t, defines => ['MIN_EXPIRES=5']);

$t->write_file_expand('nginx.conf', ims_conf($t,
    min_expires => '5s', locations => <<"EOL"));

        location / {
            root  $Ims::ROOT/wic/dist;
            types { text/html html; text/css css; text/javascript js; }
        }
EOL

$t->run();

###############################################################################

my $shots = $ENV{IMS_SHOTS} // "$dir/shots";

my $status = node_checks($t, 11, 'browser.mjs',
    '--base', "https://localhost:$port", '--shots', $shots, '--renew', 15);

is($status, 0, 'driver');

ok(-s "$shots/2-registered.png", 'screenshot');

###############################################################################
