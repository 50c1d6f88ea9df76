#!/usr/bin/perl

# Tests for a core that is reached by IPv6, and a client that comes by it.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Socket::IP;

use Ims;
use ImsCall;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

plan(skip_all => 'no ::1')
    unless IO::Socket::IP->new(LocalHost => '::1', Listen => 1);

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(22);

ims_keys($t);
ims_pool($t);

my $conf = ims_conf($t, workers => 3, advertise => '[::1]:%%PORT_8070%%',
    core => 'server [::1]:%%PORT_8060%%;',
    server => 'listen [::1]:%%PORT_8080%%;');
$conf =~ s/(ims_listen\s+)127\.0\.0\.1:8070/$1\[::1]:%%PORT_8070%%/;
$conf =~ s/(ims_core_allow\s+)127\.0\.0\.1;/$1::1;/;

$t->write_file_expand('nginx.conf', $conf);
$t->run();

###############################################################################

$ImsCall::HOST = '[::1]';

my $core = ImsCore->new(port(8060), host => '::1');
my $edge = '\[::1\]:' . port(8070);

my $c = ImsClient->new(user => 'alice', ws => undef);
$c->connect(host => '::1');

$c->send($c->{ua}->register());
my ($m, $link) = $core->request();
my @via = sip_headers($m, 'Via');
like($via[0], qr{^SIP/2\.0/TCP $edge;branch=}, 'Via of the edge');
like($via[1], qr/;received=(?:::1|\[::1\])(?:;|$)/, 'received of the client');
like(sip_header($m, 'Path'), qr/\@$edge;/, 'Path');
$core->reply($link, $m, 200, 'OK',
    extra => ['Service-Route: ' . ImsCall::service_route()]);
is($c->answer()->{status}, 200, 'registered');
($c->{path}) = sip_header($m, 'Path') =~ /<([^>]+)>/;

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@[2001:db8::9]'));
($m, $link) = $core->request();
is($m->{ruri}, 'sip:bob@[2001:db8::9]', 'message to an address');
is(sip_header($m, 'Route'), ImsCall::service_route(), 'by the Service-Route');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

for (1 .. 3) {
    my $in = $core->connect(port(8070));
    $core->send($in, ImsCall::core_request($c, 'MESSAGE'));
    $m = $c->answer();
    is($m->{method}, 'MESSAGE', 'message to the client');
    $c->send(sip_reply($m, 200, 'OK'));
    is(($core->request())[0]->{status}, 200, 'answered by any worker');
    $core->close($in);
}

my $in = $core->connect(port(8070));

for my $d (ImsCall->calls($c, $core), ImsCall->called($c, $core, $in)) {
    like($d->{core_route}, qr/\@$edge;/, "$d->{side}: Record-Route");

    $c->send($d->from_client('INFO'));
    ($m, $link) = $core->request();
    is($m->{method}, 'INFO', "$d->{side}: INFO of the client");
    $core->reply($link, $m, 200, 'OK');
    is($c->answer()->{status}, 200, "$d->{side}: answered");

    $core->send($in, $d->from_core('BYE'));
    $m = $c->answer();
    is($m->{method}, 'BYE', "$d->{side}: BYE of the core");
    $c->send(sip_reply($m, 200, 'OK'));
    $core->request();
}

is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################
