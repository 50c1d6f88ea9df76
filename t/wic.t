#!/usr/bin/perl

# Runs the tests of wic/: the library against objects (node --test).

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;

###############################################################################

my ($status) = ims_run('node', '--version');
plan(skip_all => 'no node') if $status != 0;

my @files = glob "$Ims::ROOT/wic/test/*.test.mjs";

($status, my $out) = ims_run('node', '--test', '--test-reporter=tap', @files);
my ($passed) = $out =~ /^# pass (\d+)/m;
my ($failed) = $out =~ /^# fail (\d+)/m;

plan(tests => 3);

is($status, 0, 'exit status') or diag($out);
cmp_ok($passed // 0, '>=', 30, 'passed');
is($failed, 0, 'failed');

###############################################################################
