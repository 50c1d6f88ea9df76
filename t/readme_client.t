#!/usr/bin/perl

# Tests for the scripts in README.md: they register and sign out as they are.

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

node_ready($t)->plan(4);

ims_keys($t);
ims_cert($t);
ims_pool($t);
ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

###############################################################################

my $status = node_checks($t, 2, 'readme.mjs', '--base',
    'https://localhost:' . port(8443));

is($status, 0, 'driver');

is_deeply(ims_core_bindings($t), {}, 'nothing left at the core');

###############################################################################
