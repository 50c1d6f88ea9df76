#!/usr/bin/perl

# Tests for a core that is slow, gone, or answers elsewhere: links that break
# between REGISTER and its answer.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use Time::HiRes qw/ time sleep /;

use Ims;
use ImsCore;
use ImsSip;
use ImsWs;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(24);

ims_keys($t);
ims_pool($t, size => 100);

# no de-REGISTER of lost flows among what the core gets, however slow we are

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    grace => '10m'));
$t->run();

###############################################################################

my $users = 0;
my $core = ImsCore->new(port(8060));

# plain

my ($ws, $ua) = client();
$ws->send($ua->register());
my ($m, $link) = $core->request();
is($m->{method}, 'REGISTER', 'forwarded');
$core->reply($link, $m, 200, 'OK');
is(status($ws), 200, 'answered');

# the same connection again, in pieces and two at once

$ws->send($ua->register());
($m, $link) = $core->request();
my $reply = sip_reply($m, 200, 'OK');
$core->send($link, $_) for map { substr $reply, $_ * 50, 50 }
    0 .. length($reply) / 50;
is(status($ws), 200, 'answer in pieces');

my ($ws2, $ua2) = client();
$ws->send($ua->register());
my ($m1, $link1) = $core->request();
$ws2->send($ua2->register());
my ($m2, $link2) = $core->request();

# on one link they are one segment, whichever workers took them

$core->send($link2, sip_reply($m2, 200, 'OK') . sip_reply($m1, 200, 'OK'));
is(status($ws), 200, 'two answers in one segment, on one link, first');
is(status($ws2), 200, 'second');

# the link breaks before the answer: sent once more, same bytes, and the
# answer comes on a connection to ims_listen, to whichever worker took it

my %way;
my $before = counters();
my $resent = 0;
my $twins = 0;

for my $try (1 .. 60) {
    my $was = counters();

    ($ws, $ua) = client();
    $ws->send($ua->register());
    ($m, $link) = $core->request() or last;
    $core->close($link);

    my ($again) = $core->request(3) or last;
    $resent++;
    $twins++ if $again->{text} eq $m->{text};

    my $other = $core->connect(port(8070));
    $core->reply($other, $m, 200, 'OK');

    last if status($ws) != 200;

    my $now = counters();
    $way{$now->{deliver_received} > $was->{deliver_received}
         ? 'delivered' : 'direct'}++;

    $core->close($other);
    $ws->close();

    last if $try >= 4 && keys %way == 2;
}

is($resent, sum(\%way), 'sent again each time');
is($twins, $resent, 'the same bytes');
ok($way{direct}, 'answer to the worker that asked');
ok($way{delivered}, 'answer to the other worker');
diag(join ', ', map { "$_ $way{$_}" } sort keys %way);

my $after = counters();
is($after->{response_unmatched}, $before->{response_unmatched}, 'none lost');
is($after->{core_resent} - $before->{core_resent}, $resent,
    'counted as sent again');

# not a third time

($ws, $ua) = client();
$ws->send($ua->register());
($m, $link) = $core->request();
$core->close($link);
(undef, $link) = $core->request();
$core->close($link);
ok($core->silent(1), 'sent twice at most');
$ws->drop();

# half an answer and the end: as if it had not been sent

($ws, $ua) = client();
$ws->send($ua->register());
($m, $link) = $core->request();
$core->send($link, substr sip_reply($m, 200, 'OK'), 0, 100);
$core->close($link);
($m, $link) = $core->request();
$core->reply($link, $m, 200, 'OK');
is(status($ws), 200, 'half an answer, then a whole one');

# noise instead of an answer

$before = counters();

($ws, $ua) = client();
$ws->send($ua->register());
($m, $link) = $core->request();
$core->send($link, "\0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
($m, $link) = $core->request();
ok($m, 'noise breaks the link, sent again');
$core->reply($link, $m, 200, 'OK') if $m;
is(status($ws), 200, 'and answered');
is(counters()->{core_bad} - $before->{core_bad}, 1, 'noise counted');

# an answer to nobody, to a slot that is not, and twice

$core->send($link, sip_reply($m, 200, 'OK'));
$core->send($link, sip_reply($m, 200, 'OK')
    =~ s/branch=z9hG4bK\w+/branch=z9hG4bKnobody/r);
is($ws->recv(0.5), undef, 'stray answers go nowhere');
$ws->close();

# core down: 503 in two seconds, and again at once when it is back

$core->close($_) for $core->links();
$core->deaf();
sleep 0.3;

($ws, $ua) = client();
my $start = time();
$ws->send($ua->register());
my $text = $ws->recv(6);
my $took = time() - $start;

is(sip_parse($text // '')->{status}, 503, 'core down');
like($text // '', qr/^Retry-After: \d+\r$/m, 'when to come again');
cmp_ok($took, '>', 1.5, 'tried for a while');
cmp_ok($took, '<', 8, 'but not for long');

# (once more if this process stood still: the two seconds go on meanwhile)

for (1 .. 5) {
    ($ws2, $ua2) = client();
    $start = time();
    $ws2->send($ua2->register());
    select undef, undef, undef, 0.3;
    $core = ImsCore->new(port(8060));
    last if time() - $start < 0.5;
    $core->deaf();
}
($m, $link) = $core->request(3);
ok($m, 'sent as soon as it is back');
$core->reply($link, $m, 200, 'OK') if $m;
is(status($ws2), 200, 'and answered');

# a core that takes connections and nothing else

cmp_ok(counters()->{core_down}, '>=', 1, 'counted');

###############################################################################

# a WebSocket with a user of its own

sub client {
    my $name = 'user' . ++$users;
    my $id = ims_identity(user => $name)->{json} or die "no identity\n";

    my $c = ImsWs->new(port => port(8080), origin => 'http://localhost');
    my $sip = ImsSip->new(aor => $id->{impu}, token => $id->{token});

    return ($c, $sip);
}


sub status {
    my ($c) = @_;

    my $answer = sip_parse($c->recv(5) // '');
    $c->{last} = $answer ? $answer->{status} : 0;

    return $c->{last};
}


sub counters { return ims_status()->{counters} }


sub sum {
    my ($h) = @_;

    my $n = 0;
    $n += $_ for values %$h;

    return $n;
}


###############################################################################
