#!/usr/bin/perl

# Tests for an upgrade of the binary with live flows whose core speaks UDP: the
# new one goes on with the socket of the old one.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(13);

my $dir = $t->testdir();
my @masters;

# a master that is its caller's child takes no USR2, so it is a daemon here,
# and ended here whatever happens

END {
    kill 'TERM', grep { is_nginx($_) } @masters;
    ims_wait(5, sub { !grep { is_nginx($_) } @masters });
}

ims_keys($t);
ims_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1, workers => 2)
    =~ s/daemon off;/daemon on;/r);

my $core = ImsCore->new(port(8060), udp => 1);

system($ENV{TEST_NGINX_BINARY}, '-p', "$dir/", '-c', 'nginx.conf',
       '-e', 'error.log',
       '-g', "pid $dir/nginx.pid; error_log $dir/error.log debug;") == 0
    or die "nginx did not start: " . $t->read_file('error.log') . "\n";
ims_wait(5, sub { -s "$dir/nginx.pid" }) or die "no pid file\n";

###############################################################################

my $old = master('nginx.pid');
my $edge = $core->datagrams(port(8070));
my @flows = flows(4);

is(reached(@flows), 4, 'reached');

kill 'USR2', $old;
ok(ims_wait(8, sub {
    -s "$dir/nginx.pid.oldbin" && -s "$dir/nginx.pid"
        && $t->read_file('nginx.pid') != $old
}), 'a second binary');
my $new = master('nginx.pid');

is(reached(@flows), 4, 'reached, whichever of the two reads it');
is(served(@flows), 4, 'served');

kill 'WINCH', $old;
ok(ims_wait(5, sub {
    2 <= (() = $t->read_file('error.log') =~ /gracefully shutting down/g)
}), 'old workers leave');

my @later = flows(2);
is(reached(@flows, @later), 6, 'reached in both, from the new one');
is(served(@flows, @later), 6, 'served');

kill 'QUIT', $old;
is(reached(@flows, @later), 6, 'nor does it end with its master');

$_->{ws}->close() for @flows;
ok(ims_wait(10, sub { quiet(); !is_nginx($old) }), 'the old one is gone');
is(reached(@later), 2, 'the new one serves on');
is(served(@later), 2, 'both ways');

kill 'QUIT', $new;
ok(ims_wait(10, sub { quiet(); !is_nginx($new) }), 'gone');
is(ims_count_log($t, qr/exited on signal|\[(?:alert|emerg)\]/), 0,
    'no alerts');

###############################################################################

sub master {
    my ($file) = @_;

    my $pid = $t->read_file($file) + 0;
    push @masters, $pid unless grep { $_ == $pid } @masters;

    return $pid;
}


# that process, if it is still our nginx

sub is_nginx {
    my ($pid) = @_;

    open my $f, '<', "/proc/$pid/cmdline" or return 0;

    return (<$f> // '') =~ /\Q$dir\E/;
}


sub flows {
    my ($n) = @_;

    my @new = map { ImsClient->new() } 1 .. $n;
    ImsCall::registered($_, $core) for @new;

    return @new;
}


# how many get a request through to the core, and its answer

sub served {
    my $n = 0;

    for my $c (@_) {
        my $id = 's' . int rand 1e9;

        $c->send($c->{ua}->request('MESSAGE', call_id => $id,
            to => 'sip:bob@ims.example'));

        for (1 .. 20) {
            my ($m, $link) = $core->request(3) or last;
            next if $m->{status};
            $core->reply($link, $m, 200, 'OK');
            last if sip_header($m, 'Call-ID') eq $id;
        }

        my $answer = $c->answer(3) or next;
        $n++ if $answer->{status} == 200
            && sip_header($answer, 'Call-ID') eq $id;
    }

    return $n;
}


# how many get a message of the core's, and answer it

sub reached {
    my $n = 0;

    for my $c (@_) {
        my $id = 'm' . int rand 1e9;

        $core->send($edge, ImsCall::core_request($c, 'MESSAGE',
            call_id => $id, via => [ 'SIP/2.0/UDP 127.0.0.1:' . port(8060)
                . ";branch=z9hG4bK$id" ]));

        my $m = $c->answer(3) or next;
        next unless (sip_header($m, 'Call-ID') // '') eq $id;

        $c->send(sip_reply($m, 200, 'OK', to_tag => 'a'));

        for (1 .. 20) {
            my ($r, $link) = $core->request(3) or last;
            $core->reply($link, $r, 200, 'OK'), next unless $r->{status};
            $n++ if $r->{status} == 200 && sip_header($r, 'Call-ID') eq $id;
            last;
        }
    }

    return $n;
}


# the edge takes back what is over

sub quiet {
    while (my ($m, $link) = $core->request(0.1)) {
        $core->reply($link, $m, 200, 'OK') unless $m->{status};
    }
}

###############################################################################
