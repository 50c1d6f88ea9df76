#!/usr/bin/perl

# Tests for an INVITE over UDP that nobody answered in time: what rings late is
# cancelled, and that until it is heard; a late answer is hung up.

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

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(14);

ims_keys($t);
ims_pool($t);

$t->write_file_expand('nginx.conf', ims_conf($t, udp => 1));

my $core = ImsCore->new(port(8060), udp => 1);
$t->run();

###############################################################################

my $c = ImsClient->new(user => 'alice');
ImsCall::registered($c, $core);

# A: 0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5 s; B: 32 s

my $since = time();
$c->send($c->{ua}->request('INVITE', to => 'sip:bob@ims.example',
    from_tag => 'me', call_id => 'late', type => 'application/sdp',
    body => "v=0\r\n", extra => [ 'Contact: <' . $c->{ua}->contact()
        . ';ob>' ]));
is($c->answer()->{status}, 100, '100 of the edge');

my ($invite, $link) = $core->request(5);
is($invite->{method}, 'INVITE', 'INVITE');
is(ref $link, 'ImsCore::Datagrams', 'by UDP');

my ($same, $m) = (0);
while (time() - $since < 31.9) {
    ($m) = $core->request(0.4) or next;
    $same++ if $m->{text} eq $invite->{text};
}

my $answer = $c->answer(5);
my $took = time() - $since;

# the last one leaves half a second before the end, unless the worker stands
# still from then on until after it

ok($same == 6 || $same == 5 && $took > 32.1, 'and six more')
    or diag "$same, $took";
is($answer ? $answer->{status} : 'nothing', 408, 'then 408');
ok($core->silent(0.5), 'no more of it');

# it rings after all

my @late = (to_tag => 'far', extra => [ 'Contact: <sip:bob@192.0.2.1>',
    'Record-Route: ' . ImsCall::far_route() . ', '
    . sip_header($invite, 'Record-Route') ]);

$core->reply($link, $invite, 180, 'Ringing', @late);
my ($cancel) = $core->request(5);
is($cancel ? $cancel->{method} : 'nothing', 'CANCEL', 'it rings: CANCEL');
($m) = $core->request(5);
is($m ? $m->{text} : 'nothing', $cancel->{text}, 'lost: again');
$core->reply($link, $cancel, 200, 'OK');
ok($core->silent(2.5), 'answered: no more');

# and is answered, which crossed the CANCEL

$core->reply($link, $invite, 200, 'OK', @late);
for my $method (qw/ ACK BYE BYE /) {
    ($m) = $core->request(5);
    is($m ? $m->{method} : 'nothing', $method, "a late answer: $method");
}
$core->reply($link, $m, 200, 'OK');
is($c->answer(0.3), undef, 'the client hears nothing of it');
is(ims_count_log($t, qr/\[(?:alert|emerg|crit)\]/), 0, 'no alerts');

###############################################################################
