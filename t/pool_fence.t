#!/usr/bin/perl

# Tests for a large pool that is cut off at once: every flow of it is closed,
# in both workers, and no old token is worth anything; another pool's flow
# stays. IMS_FENCE_POOL=999999 makes the pool larger.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant FLOWS => 60;

my $size = $ENV{IMS_FENCE_POOL} // 20000;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(12);

ims_keys($t);
ims_pool($t, size => $size);
ims_poolctl($t, 'pool', 'create', 'other', 'ims.example');
ims_poolctl($t, 'import', 'other', '--range', 'sip:other-[1-9]@ims.example');

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    locations => <<'END') =~ s/(pool +web);/$1 other;/r);
        location = /ims/other {
            ims_identity       other issuer=site;
            ims_identity_user  $remote_user;
        }
END
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));

my @flows = map { ImsClient->new() } 1 .. FLOWS;
my $bad = grep { ($_->registered($core))[2]{status} != 200 } @flows;
is($bad, 0, FLOWS . ' flows');

my $other = ImsClient->new(identity => '/ims/other');
is(($other->registered($core))[2]{status}, 200, 'one of another pool');

my $from = time();
my ($status) = ims_poolctl($t, 'revoke', 'pool', 'web');
my $told = time() - $from;

my @codes = map { ($_->{ws}->closed(10))[0] // 'open' } @flows;
my $all = time() - $from;

is($status, 0, sprintf 'a pool of %d revoked: %.0f ms', $size, $told * 1000);
is(scalar(grep { $_ eq '1008' } @codes), FLOWS, sprintf
    'and %d flows closed, the last one after %.0f ms', FLOWS, $all * 1000);
cmp_ok($all, '<', 10, 'without hanging');

ok($other->alive(), 'the other pool: its flow stays');

# each of them is taken back at the core

my %gone;
while (my ($m, $link) = $core->request(2)) {
    $core->reply($link, $m, 200, 'OK', contact => '');
    $gone{sip_header($m, 'Contact') // ''}++;
}
is(scalar(grep { $gone{'<' . $_->{ua}->contact() . '>;expires=0'} } @flows),
    FLOWS, 'and de-registered');

# their tokens have not expired, and are worth nothing

my $again = ImsClient->new(user => $flows[0]{user}, ws => undef);
is($again->{id}{impu}, $flows[0]{id}{impu}, 'the holder may return');
isnt($again->{id}{lease}, $flows[0]{id}{lease}, 'with a new lease');

$flows[1]->connect();
$flows[1]->send($flows[1]{ua}->register());
is($flows[1]->answer()->{status}, 403, 'an old token is refused');
is(($flows[1]{ws}->closed(3))[0], 1008, 'and its WebSocket closed');

($status, my $out) = ims_poolctl($t, '-t', 600, 'check', '--text');
is($status, 0, 'check') or diag($out);

###############################################################################
