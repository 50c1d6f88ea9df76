#!/usr/bin/perl

# Tests for purges by the edge when something goes in the middle of one: the
# worker, the pool manager, the configuration; or when the last holder comes
# back.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ sleep time /;

use Ims;
use ImsClient;
use ImsCore;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(45);

# nginx has one for a killed worker; they are counted below

$t->todo_alerts();

ims_keys($t);
my $poolmgr = ims_purge_pool($t, size => 20);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $i, $reply, $id);

# two workers, each identity once

my @ended = map { ims_ended($t) } 1 .. 5;
my %stars;
while (($m, $link) = $core->request(keys %stars < 5 ? 10 : 2.5)) {
    $stars{sip_header($m, 'To')}++;
    ims_gone($core, $link, $m);
}
is(scalar keys %stars, 5, 'all of them');
is(scalar(grep { $_ != 1 } values %stars), 0, 'each once, of two workers');
is(scalar(grep { !ims_rested($t, $_) } @ended), 0, 'purged');
is($core->{accepted}, 1, 'by one of them');

# the last holder comes back meanwhile

$reply = ims_identity(user => 'alice');
$id = $reply->{json};
is(ims_identity(user => 'alice', method => 'DELETE',
    query => "lease=$id->{lease}", cookie => $reply->{cookie})->{status}, 204,
    'alice gives it back');
($m, $link) = $core->request(10);
is(sip_header($m, 'To'), "<$id->{impu}>", 'it is purged');

$reply = ims_identity(user => 'alice');
is($reply->{status}, 503, 'alice is back: she has to wait');
is($reply->{json}{error}, 'unavailable', 'told as what will pass');
like($reply->{headers}, qr/^Retry-After: 1\r?$/m, 'soon');
is(ims_count_log($t, qr/put this request off: "BUSY /), 1, 'logged');

ims_gone($core, $link, $m);
ok(ims_wait(5, sub {
    ($reply = ims_identity(user => 'alice'))->{status} == 200;
}), 'she has it when that is done');
is($reply->{json}{impu}, $id->{impu}, 'her own');
isnt($reply->{json}{lease}, $id->{lease}, 'by another lease');

# a worker dies before the answer

$i = ims_ended($t);
($m, $link) = $core->request(10);
ok(ims_star($m), 'sent by a worker');
my ($dead) = ims_owner($link);
kill 'KILL', $dead;
ok(ims_wait_log($t, qr/worker process $dead exited on signal 9/), 'killed');
ok($core->silent(2.5), 'those that live do not ask again');
my $other = $core->connect(port(8070));
ims_gone($core, $other, $m);
ok($core->silent(0.5), 'an answer');
cmp_ok(ims_rest($t, $i), '>', 500, 'proves nothing to them');
$core->close($other);

$i = ims_ended($t);
($m, $link) = $core->request(10);
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'they purge what ends later');

# the pool manager is killed before the answer, and is back

$i = ims_ended($t);
($m, $link) = $core->request(10);
ok(ims_star($m), 'sent');
ims_kill($poolmgr, 'KILL');
ims_gone($core, $link, $m);
ok(ims_wait_log($t, qr/\Q$i->{lease}\E was not purged: the pool manager/),
    'the pool manager is away');
$poolmgr = ims_pool_start($t);
cmp_ok(ims_rest($t, $i), '>', 500, 'the proof was lost');
my $first = sip_header($m, 'Call-ID');
($m, $link) = star_of($i);
ok($m, 'it is given out again');
isnt(sip_header($m, 'Call-ID'), $first, 'by another purge');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'which is good');

# likewise, but it is back before the answer

$i = ims_ended($t);
($m, $link) = $core->request(10);
ims_kill($poolmgr, 'KILL');
$poolmgr = ims_pool_start($t);
ims_gone($core, $link, $m);
ok(ims_wait_log($t, qr/\Q$i->{lease}\E was not purged: the pool manager/),
    'the one that followed does not know that purge');
($m, $link) = star_of($i);
ok($m, 'given out again');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'purged');

# it is away for a while: nothing fills the log

ims_kill($poolmgr, 'TERM');
ims_wait_log($t, qr/is away \(edge\)/);
my $lines = ims_count_log($t, qr/is away \(edge\)/);
sleep 4;
is(ims_count_log($t, qr/is away \(edge\)/), $lines, 'one line an outage');
$poolmgr = ims_pool_start($t);
$i = ims_ended($t);
($m, $link) = star_of($i);
ok($m, 'asked again when it is back');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'purged');

# a reload before the answer

$i = ims_ended($t);
($m, $link) = $core->request(10);
ok(ims_star($m), 'sent');
my $done = counters()->{purge_done};
$t->reload();
ok(ims_wait_log($t, qr/exited with code 0/, count => 2, seconds => 15),
    'the workers are gone');
$other = $core->connect(port(8070));
ims_gone($core, $other, $m);
ok($core->silent(2.5), 'those that follow do not ask again');
is(counters()->{purge_done}, $done, 'nor take the answer');
cmp_ok(ims_rest($t, $i), '>', 500, 'it rests');
$core->close($other);

$i = ims_ended($t);
($m, $link) = $core->request(10);
ok(ims_star($m), 'they purge what ends later');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'with success');

# a flow that outlives the reload in its old worker: the new one does it, and
# the answer comes while the old one is still there

my $ws = ImsClient->new(user => 'carol');
$ws->registered($core);
my $was = ims_count_log($t, qr/exited with code 0/);
$t->reload();
ok(ims_wait_log($t, qr/exited with code 0/, count => $was + 1,
    seconds => 15), 'the worker without a flow is gone');
ok($ws->alive(), 'the other one is there');
$i = ims_ended($t);
($m, $link) = $core->request(10);
ok(ims_star($m), 'purged beside an old worker');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'of the same core');

is((ims_poolctl($t, 'check'))[0], 0, 'the pool is sound');
is(ims_count_log($t, qr/\[(?:alert|emerg)\]/), 1, 'one alert, of the kill');
is(ims_count_log($t, qr/purge.*(?:alice|carol|ended\d)/), 0,
    'no name of a user in a line of a purge');

###############################################################################

sub counters { return ims_status()->{counters} }


# that of one identity: a pool manager that was started again gives out all
# others that rest, too

sub star_of {
    my ($ended) = @_;

    for (1 .. 20) {
        my ($star, $l) = $core->request(30) or return;
        return ($star, $l) if ims_star($star)
            && sip_header($star, 'To') eq "<$ended->{impu}[0]>";
        ims_gone($core, $l, $star);
    }

    return;
}


###############################################################################
