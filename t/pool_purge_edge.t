#!/usr/bin/perl

# Tests for purges by the edge: what it asks of the core, once, and what it
# takes for a proof.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ sleep time /;

use Ims;
use ImsCore;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(55);

ims_keys($t);
ims_purge_pool($t, size => 40);
ims_poolctl($t, 'pool', 'create', 'two', 'ims.example', qw/ --delay 1
    --margin 1 --purge on /);
ims_poolctl($t, 'import', 'two', '--range', "sip:two-[01-10]\@ims.example",
    '--range', "sip:alias-[01-10]\@ims.example");

$t->write_file_expand('nginx.conf', ims_conf($t, pool => 'web',
    issuer => 'pool two;', ws => 'ims_authorization_entity on;'));
$t->run();

###############################################################################

my $core = ImsCore->new(port(8060));
my ($m, $link, $i, $other, $begun);

# what is sent

$begun = time();
$i = ims_ended($t);
($m, $link) = $core->request(10);
cmp_ok(time() - $begun, '>=', 1, 'not before D');

my $impu = $i->{impu}[0];
my ($impi) = $impu =~ /^sip:(.*)$/;

is($m->{start}, 'REGISTER sip:ims.example SIP/2.0', 'REGISTER of its home');
is(sip_header($m, 'To'), "<$impu>", 'To');
like(sip_header($m, 'From'), qr/^<\Q$impu\E>;tag=[0-9a-f]{16}$/, 'From');
is(join('|', sip_headers($m, 'Contact')), '*', 'Contact');
is(join('|', sip_headers($m, 'Expires')), '0', 'Expires');
is(join('|', sip_headers($m, 'Authorization')),
    "Digest username=\"$impi\",realm=\"ims.example\",nonce=\"\","
    . 'uri="sip:ims.example",response="",integrity-protected="auth-done"'
    . ',authorization-entity="https://localhost"', 'auth-done');
is(sip_header($m, 'CSeq'), '1 REGISTER', 'CSeq');
is(sip_header($m, 'Max-Forwards'), '70', 'Max-Forwards');
my $own = '127.0.0.1:' . port(8070);
like(sip_header($m, 'Via'), qr{^SIP/2\.0/TCP \Q$own\E;branch=z9hG4bK}, 'Via');
is(sip_header($m, 'Path'), "<sip:$own;transport=tcp;lr;ob>",
    'Path of no flow');


my $call_id = sip_header($m, 'Call-ID');
like($call_id, qr/^[0-9a-f]{32}$/, 'Call-ID');

cmp_ok(ims_rest($t, $i), '>', 500, 'it rests as long as it would');
like((ims_poolctl($t, 'acquire', 'web', $i->{user}))[1], qr/under way/,
    'its last holder waits');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), '200: purged');
ok($core->silent(1.5), 'asked once');
is(counters()->{purge_done}, 1, 'counted');
is(ims_count_log($t, qr/pool web lease \Q$i->{lease}\E purged/), 1, 'logged');

# after the margin somebody else has it; a 100 before the 200 is no answer

$i = ims_ended($t);
($m, $link) = $core->request(10);
isnt(sip_header($m, 'Call-ID'), $call_id, 'each has its own Call-ID');
$core->reply($link, $m, 100, 'Trying');
sleep 0.2;
cmp_ok(ims_rest($t, $i), '>', 500, '100 is no answer');
ims_gone($core, $link, $m);
ok(ims_rested($t, $i), 'the 200 after it is');

# what is no proof

my @cases = (
    ['500', 500, 'Server Error'],
    ['403', 403, 'Forbidden'],
    ['404', 404, 'Not Found'],
    ['302', 302, 'Moved'],
    ['202', 202, 'Accepted'],
    ['200 with a contact left', 200, 'OK',
        contact => '<sip:x@y.invalid>;expires=10'],
    ['200 with "*"', 200, 'OK', contact => '*'],
    ['200 with a contact in compact form', 200, 'OK', contact => '',
        extra => ['m: <sip:x@y.invalid>']],
);

my %of;
for (@cases) {
    $i = ims_ended($t);
    $of{"<$i->{impu}[0]>"} = [$i, @$_];
}

for (@cases) {
    ($m, $link) = $core->request(10);
    my (undef, undef, @answer) = @{$of{sip_header($m, 'To')}};
    $core->reply($link, $m, @answer);
}

ok(ims_wait(5, sub { counters()->{purge_failed} == @cases }), 'counted');
cmp_ok(ims_rest($t, $_->[0]), '>', 500, "no proof: $_->[1]")
    for sort { $a->[1] cmp $b->[1] } values %of;

is(ims_count_log($t,
    qr/was not purged: the core refuses \((500|40[34]|302|202)\)/), 5,
    'refusals logged');
is(ims_count_log($t, qr/was not purged: contacts are left \(200\)/), 3,
    'contacts logged');

# answers that are another's

$i = ims_ended($t);
($m, $link) = $core->request(10);
my $text = sip_reply($m, 200, 'OK', contact => '');
(my $wrong = $text) =~ s/Call-ID: \w+/Call-ID: x/;
$core->send($link, $wrong);
ok(ims_wait_log($t, qr/not purged: the answer is another request's/),
    '200 with a foreign Call-ID');
$core->send($link, $text);
sleep 0.3;
cmp_ok(ims_rest($t, $i), '>', 500, 'nor the right one after it');

$i = ims_ended($t);
($m, $link) = $core->request(10);
($wrong = sip_reply($m, 200, 'OK', contact => ''))
    =~ s/branch=z9hG4bKpurge\w\w/branch=z9hG4bKpurge__/;
$core->send($link, $wrong);
ok($core->silent(0.3), 'nothing follows');
cmp_ok(ims_rest($t, $i), '>', 500, '200 with a guessed branch');

$i = ims_ended($t);
($m, $link) = $core->request(10);
$other = $core->connect(port(8070));
ims_gone($core, $other, $m);
ok(ims_wait_log($t, qr/not purged: the answer came by another connection/),
    '200 by another connection');
$core->close($other);
cmp_ok(ims_rest($t, $i), '>', 500, 'no proof');

# each IMPU of an identity

$i = ims_ended($t, pool => 'two');
my @both = map { [$core->request(10)] } 1 .. 2;
is(join(',', sort map { sip_header($_->[0], 'To') } @both),
    join(',', sort map { "<$_>" } @{$i->{impu}}), 'one for each IMPU');
is(scalar(grep { sip_header($_->[0], 'Authorization') =~ /username="two-/ }
    @both), 2, 'of its IMPI');
ims_gone($core, @{$both[0]}[1, 0]);
sleep 0.3;
cmp_ok(ims_rest($t, $i), '>', 500, 'one of two is not enough');
ims_gone($core, @{$both[1]}[1, 0]);
ok(ims_rested($t, $i), 'both are');

$i = ims_ended($t, pool => 'two');
@both = map { [$core->request(10)] } 1 .. 2;
ims_gone($core, @{$both[0]}[1, 0]);
$core->reply($both[1][1], $both[1][0], 403, 'Forbidden');
ok(ims_wait_log($t, qr/pool two lease \Q$i->{lease}\E was not purged/),
    '200 and 403');
cmp_ok(ims_rest($t, $i), '>', 500, 'no proof');

# a link that breaks takes the proof with it, and is no reason to ask again

my $links = $core->{accepted};
$i = ims_ended($t);
($m, $link) = $core->request(10);
$core->close($link);
ok(ims_wait_log($t, qr/\Q$i->{lease}\E was not purged: the connection broke/),
    'broken link');
ok($core->silent(1.5), 'it is not asked again');
is($core->{accepted}, $links, 'nor is a link opened for that');
cmp_ok(ims_rest($t, $i), '>', 500, 'no proof');

# a core that is down

$core->deaf();
$i = ims_ended($t);
ok(ims_wait_log($t, qr/\Q$i->{lease}\E was not purged: the connection broke/),
    'core down');
$core = ImsCore->new(port(8060));
ok($core->silent(1.5), 'nothing is made up for when it is back');
cmp_ok(ims_rest($t, $i), '>', 500, 'no proof');

# a burst: all of them, each once

my @many = map { ims_ended($t) } 1 .. 20;
my %stars;
for (1 .. 20) {
    ($m, $link) = $core->request(10) or last;
    $stars{sip_header($m, 'To')}++ if ims_star($m);
    ims_gone($core, $link, $m);
}
is(scalar keys %stars, 20, 'a burst of them');
is(scalar(grep { $_ != 1 } values %stars), 0, 'each once');
is(scalar(grep { !ims_rested($t, $_) } @many), 0, 'all purged');

is((ims_poolctl($t, 'check'))[0], 0, 'the pool is sound');

###############################################################################

sub counters {
    return ims_status()->{counters};
}

###############################################################################
