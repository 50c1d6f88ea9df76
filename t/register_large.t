#!/usr/bin/perl

# Tests for a 200 whose sets do not fit a slot of the flow table: the user is
# registered and can send, with the identity registered.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(7);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my $c = ImsClient->new(user => 'alice');

my @large = map { sprintf '<sip:%s-%d@ims.example>', 'x' x 180, $_ } 1 .. 12;
my $route = '<sip:orig@127.0.0.1:' . port(8060) . ';lr>';

$c->send($c->{ua}->register());
my ($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK', extra => [
    "Service-Route: $route",
    'P-Associated-URI: ' . join(', ', "<$c->{id}{impu}>", @large)]);

is($c->answer()->{status}, 200, 'registered');
is(ims_status()->{counters}{flow_no_takeover}, 1, 'counted');
ok(ims_wait_log($t, qr/13 identities .* do not fit/), 'logged');

$c->send($c->{ua}->request('MESSAGE', to => 'sip:bob@ims.example',
                           body => 'hello'));
($m, $link) = $core->request();
is($m->{method}, 'MESSAGE', 'and can send');
is(sip_header($m, 'P-Asserted-Identity'), "<$c->{id}{impu}>", 'as itself');
is(sip_header($m, 'Route'), $route, 'by its Service-Route');
$core->reply($link, $m, 200, 'OK');
is($c->answer()->{status}, 200, 'answered');

###############################################################################
