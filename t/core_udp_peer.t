#!/usr/bin/perl

# Tests for peers over UDP: one that nothing can be sent to, one without a word,
# one that a reload takes the UDP away from, and names of nodes.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(23);

ims_keys($t);
ims_pool($t, size => 20);

# the first is not of this network: a socket of 127.0.0.1 cannot send there

my $allow = '127.0.0.1 192.0.2.1';
my $conf = ims_conf($t, udp => 1,
    core => 'server 192.0.2.1:5060 weight=2; server 127.0.0.1:8060;',
    http => 'ims_core_host scscf.example 127.0.0.1:8061; ');
$conf =~ s/ims_core_allow  127.0.0.1;/ims_core_allow $allow;/;

my $core = ImsCore->new(port(8060), udp => 1);
my $node = ImsCore->new(port(8061), udp => 1);

$t->write_file_expand('nginx.conf', $conf);
$t->run();

###############################################################################

# what cannot be sent goes to the next at once

my @flows;

for my $n (1 .. 4) {
    my $c = ImsClient->new();
    my $since = time();
    $c->send($c->{ua}->register());
    my ($m, $link) = $core->request(5);
    is($m && $m->{method}, 'REGISTER', "to the one that can be reached, $n");
    cmp_ok(time() - $since, '<', 5, 'soon');
    $core->reply($link, $m, 200, 'OK', extra => [
        'Service-Route: <sip:scscf.example;lr>' ]);
    is($c->answer()->{status}, 200, 'registered');
    push @flows, $c;
}

cmp_ok(ims_status()->{counters}{udp_unsent}, '>=', 1, 'counted');
ok(ims_wait_log($t, qr/datagram to 192.0.2.1:5060: could not be sent/),
    'logged');

# a node by its name: as the registration, or as its URI says

my $c = $flows[0];
my ($m, $link) = at_node($c);
is(ref $link, 'ImsCore::Datagrams', 'a listed name: by UDP');
registered($c, '<sip:scscf.example;transport=tcp;lr>');
($m, $link) = at_node($c);
isnt(ref $link, 'ImsCore::Datagrams', 'by TCP if it says so');
registered($c, '<sip:scscf.example;lr>');

# a peer without a word: told before the client gives up by itself

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
my $copies = 0;
my $since = time();
my $answer;
until ($answer || time() - $since > 40) {
    my ($m) = $node->request(0.2);
    $copies++ if $m;
    $answer = $c->answer(0.05);
}
is($answer && $answer->{status}, 504, 'silence: 504');
is($copies, 10, 'after ten copies (Timer E)');
is(ims_status()->{counters}{core_timeout}, 1, 'counted');

# without UDP, flows that came by it go on by TCP

$conf =~ s/ims_listen 127.0.0.1:8070 udp \S+;//;
$conf =~ s/core udp;/core;/;
$t->write_file_expand('nginx.conf', $conf);
$t->reload();
ok(ims_wait_log($t, qr/gracefully shutting down/), 'reloaded without UDP');

$c = $flows[1];
$c->connect();
$c->send($c->{ua}->register());
($m, $link) = $core->request(5);
is($m && $m->{method}, 'REGISTER', 'another connection registers');
isnt(ref $link, 'ImsCore::Datagrams', 'by TCP');
like(sip_header($m, 'Path'), qr/;transport=tcp;/, 'with a Path that says so');

###############################################################################

sub registered {
    my ($c, $route) = @_;

    $c->send($c->{ua}->register());
    my ($m, $link) = $core->request(5) or die "no REGISTER\n";
    $core->reply($link, $m, 200, 'OK', extra => ["Service-Route: $route"]);
    die "not registered\n" unless $c->answer()->{status} == 200;
}


sub at_node {
    my ($c) = @_;

    $c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example'));
    my ($m, $link) = $node->request(5) or return ();
    $node->reply($link, $m, 200, 'OK');
    die "no answer\n" unless $c->answer()->{status} == 200;

    return ($m, $link);
}

###############################################################################
