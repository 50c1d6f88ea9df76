package ImsNode;

# Runs a driver of t/js with Node and makes a test of each "ok - name" or
# "not ok - name: why" that it prints.

use strict;
use warnings;

use Exporter qw/ import /;
use Ims;
use Test::More ();

our @EXPORT = qw/ node_ready node_checks /;


# skips the whole file where Node or the clients' packages are missing

sub node_ready {
    my ($t) = @_;

    my ($status, $version) = ims_run('node', '--version');

    Test::More::plan(skip_all => 'no node')
        if $status != 0;

    Test::More::BAIL_OUT('wic/ is not built: run scripts/build-wic')
        unless -e "$Ims::ROOT/wic/node_modules/jssip"
            && -e "$Ims::ROOT/wic/dist/app.js";

    return $t;
}


# $expected checks; one that was not printed is a failed one

sub node_checks {
    my ($t, $expected, $driver, @args) = @_;

    local $ENV{NODE_EXTRA_CA_CERTS} = $t->testdir() . '/localhost.crt';

    my ($status, $out) = ims_run('node', "$Ims::ROOT/t/js/$driver", @args);
    my $seen = 0;

    for my $line (split /\n/, $out) {
        if ($line =~ /^(not )?ok - (.*)/) {
            $seen++;
            Test::More::ok(!$1, $2) if $seen <= $expected;

        } else {
            Test::More::diag($line);
        }
    }

    while ($seen++ < $expected) {
        Test::More::fail("$driver ended early, status $status");
    }

    return $status;
}


1;
