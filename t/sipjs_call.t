#!/usr/bin/perl

# Tests for calls and messages with SIP.js in both roles, by two workers and
# the example core.

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

node_ready($t)->plan(13);

my $port = port(8443);

ims_keys($t);
ims_cert($t);
ims_pool($t);
ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $status = node_checks($t, 12, 'sipjs_call.mjs', '--base',
    "https://localhost:$port");

is($status, 0, 'driver');

###############################################################################
