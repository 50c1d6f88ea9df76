#!/usr/bin/perl

# Tests for SIP.js as the client: a REGISTER without reg-id and Expires, its
# token from ims-access.js.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl/)->has_daemon('kamailio');

node_ready($t)->plan(7);

my $port = port(8443);

ims_keys($t);
ims_cert($t);
ims_pool($t);
ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $status = node_checks($t, 5, 'sipjs.mjs', '--base',
    "https://localhost:$port");

is($status, 0, 'driver');

is_deeply(ims_core_bindings($t), {}, 'nothing left at the core');

###############################################################################
