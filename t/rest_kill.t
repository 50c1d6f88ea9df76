#!/usr/bin/perl

# Tests for what the core may still hold when nobody is left who knows of it:
# the worker is killed before the 200, the pool manager was down at that time,
# the lease is released, and another user waits for the identity.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time sleep /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('ss')->plan(15);

$t->todo_alerts();      # nginx has one for a killed worker

# one identity, leased for 16 s, resting for 3 s longer

use constant { TTL => 16, DELAY => 2, MARGIN => 1 };

ims_keys($t);
my $manager = ims_pool($t, size => 1, args => ['--ttl', TTL, '--ttl-max', TTL,
    '--delay', DELAY, '--margin', MARGIN, '--min-expires', 1]);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    min_expires => 1, lease_check => '200ms', grace => '1s'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));

my $asked = time();
my $c = ImsClient->new(user => 'alice');
my $told = time();

# the core has bound it, and its answer meets nobody

ims_kill($manager, 'KILL');

$c->send($c->{ua}->register(expires => 3600));
my ($m, $link) = $core->request();
my $bound = time();
my $expires = $m ? sip_header($m, 'Expires') : 0;

ok($expires > 0 && $expires < TTL, 'REGISTER cut to the lease');

my $dead = ims_owner($link);
ok($dead, 'the worker that sent it');
kill 'KILL', $dead;
ok(ims_wait_log($t, qr/worker process $dead exited on signal 9/), 'is killed');
is(($c->{ws}->closed(5))[0], 1006, 'so is the WebSocket');

$core->reply($core->connect(port(8070)), $m, 200, 'OK');
ok(ims_wait(5, sub { ims_status()->{counters}{response_unmatched} >= 1 }),
    'its 200 is for nobody');

# released as soon as there is somebody to release it at

is(release($c)->{status}, 503, 'no release without the pool manager');

ims_pool_start($t);

ok(ims_wait(10, sub { release($c)->{status} == 204 }), 'released');

# the edge takes back what the dead worker may have registered; that is lost

my ($back) = $core->request(10);
is($back && sip_header($back, 'Expires'), 0, 'taken back by another worker');
is($back && sip_header($back, 'Contact'),
    '<' . $c->{ua}->contact() . '>;expires=0', 'that Contact');

# another user gets the identity when nothing of it can be left

my $before = time();
my $r = ims_identity(user => 'bob');
is($r->{status}, 503, 'not for another user yet');
is($r->{json}{error}, 'pool_exhausted', 'since it rests');

my $after = $r->{json}{retry_after};
ok($after >= $asked + TTL + DELAY + MARGIN - time() - 1
    && $after <= $told + TTL + DELAY + MARGIN - $before + 1, 'told how long');

ok(ims_wait(60, sub {
    ($r = ims_identity(user => 'bob'))->{status} == 200
}), 'then it is his');

my $given = time();

cmp_ok($given, '>=', $bound + $expires, 'the binding at the core is gone');
cmp_ok($given, '>=', $asked + TTL + DELAY + MARGIN,
    'and D and the margin have passed since the promise');

$core->reply(($core->links())[0], $back, 200, 'OK', contact => '') if $back;

###############################################################################

sub release {
    my ($c) = @_;

    return ims_identity(method => 'DELETE', user => $c->{user},
        cookie => $c->{cookie}, query => "lease=$c->{id}{lease}");
}


###############################################################################
