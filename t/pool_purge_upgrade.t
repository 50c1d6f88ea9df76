#!/usr/bin/perl

# Tests for purges by the edge while the binary is upgraded: the other one may
# have another core, so nothing is purged until what it registered is over.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ sleep /;

use Ims;
use ImsCore;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(10);
my $dir = $t->testdir();
my @masters;

# a master that is its caller's child takes no USR2, so it is a daemon here,
# and ended here whatever happens

END {
    kill 'TERM', grep { is_nginx($_) } @masters;
    ims_wait(5, sub { !grep { is_nginx($_) } @masters });
}

ims_keys($t);
ims_purge_pool($t, size => 10, args => [qw/ --ttl 5 --ttl-max 5
    --min-expires 1 /]);

$t->write_file_expand('nginx.conf',
    ims_conf($t, workers => 1) =~ s/daemon off;/daemon on;/r);

system($ENV{TEST_NGINX_BINARY}, '-p', "$dir/", '-c', 'nginx.conf',
       '-e', 'error.log',
       '-g', "pid $dir/nginx.pid; error_log $dir/error.log debug;") == 0
    or die "nginx did not start: " . $t->read_file('error.log') . "\n";

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $i);

my $old = master('nginx.pid');
purged('before');

kill 'USR2', $old;
my $new = master('nginx.pid', $old);
isnt($new, $old, 'a new master');

# both serve, and either could be the one that is asked

sleep 1.5;
$i = ims_ended($t);
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'not while both are there');
ok($core->silent(1), 'nothing is asked');

kill 'QUIT', $old;
ok(ims_wait_log($t, qr/the worker leaves/), 'the old one is told to go');

$i = ims_ended($t);
ok(ims_wait_log($t,
    qr/\Q$i->{lease}\E is not purged: another core may have registered it/),
    'nor soon after');
ok(ims_wait(20, sub { !is_nginx($old) }), 'it is gone');

# the longest lease is 5 s here, and D 1 s

sleep 7;
purged('after');

###############################################################################

sub purged {
    my ($name) = @_;

    $i = ims_ended($t);
    ($m, $link) = $core->request(10);
    ok(ims_star($m), "$name: purged");
    ims_gone($core, $link, $m);
    ok(ims_rested($t, $i), "$name: with success");
}


# the process of that pid file, another than the one before

sub master {
    my ($file, $other) = @_;

    my $pid = ims_wait(10, sub {
        my $text = eval { $t->read_file($file) } // '';
        $text =~ /^(\d+)\n/ && $1 != ($other // 0) && is_nginx($1) ? $1 : 0;
    }) or die "no master\n";

    push @masters, $pid;

    return $pid;
}


sub is_nginx {
    my ($pid) = @_;

    open my $f, '<', "/proc/$pid/cmdline" or return 0;

    return (<$f> // '') =~ /\Q$dir\E/;
}

###############################################################################
